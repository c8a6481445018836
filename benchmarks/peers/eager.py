"""A well-written eager loop: the data are one tensor, nothing waits on a value, AdamW is fused.

OPTION  fused · foreach: of AdamW · fused+channels_last: that layout of images and kernels
"""

import torch
from pace import BETAS, LEARNING_RATE, WEIGHT_DECAY, data, start
from plain import Plain

problem, option, pace = start()

adamw, _, layout = option.partition("+")
memory_format = getattr(torch, layout or "preserve_format")
model, batch = Plain(problem).to(memory_format=memory_format), problem["batch"]
x = data(problem).to(memory_format=memory_format)
optimiser = torch.optim.AdamW(
    model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=BETAS, **{adamw: True}
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
