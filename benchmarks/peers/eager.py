"""A well-written eager loop: the data are one tensor, nothing waits on a value, AdamW is fused."""

import torch
from pace import BETAS, LEARNING_RATE, WEIGHT_DECAY, data, start
from plain import Plain

problem, option, pace = start()

model, x, batch = Plain(problem), data(problem), problem["batch"]
optimiser = torch.optim.AdamW(
    model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=BETAS, **{option: True}
)
total = torch.zeros(())
while True:
    order = torch.randperm(len(x))
    for rows in order.split(batch):
        optimiser.zero_grad(set_to_none=True)
        loss, _, _ = model(x[rows])
        loss.backward()
        optimiser.step()
        total += loss.detach()
        pace()
