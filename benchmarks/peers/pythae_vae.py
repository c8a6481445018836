"""Pythae's VAE under its BaseTrainer."""

import logging
import tempfile

import torch
from pace import BETAS, LEARNING_RATE, WEIGHT_DECAY, data, start
from plain import perceptron
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig

problem, option, pace = start("pythae")

logging.disable(logging.INFO)


class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.network = perceptron([problem["x"], *problem["hidden"], 2 * problem["latent"]])

    def forward(self, x):
        mean, log_variance = self.network(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.network = perceptron([problem["latent"], *problem["hidden"][::-1], problem["x"]])

    def forward(self, z):
        return ModelOutput(reconstruction=self.network(z))


class Measured(VAE):
    def forward(self, inputs, **kwargs):
        pace()
        return super().forward(inputs, **kwargs)


gaussian = problem["likelihood"] == "gaussian"
config = VAEConfig(
    input_dim=(problem["x"],),
    latent_dim=problem["latent"],
    reconstruction_loss="mse" if gaussian else "bce",
)
# for images its own default perceptrons, which have these sizes
model = Measured(config, Encoder(), Decoder()) if gaussian else Measured(config)
x = data(problem)
settings = BaseTrainerConfig(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=problem["batch"],
    num_epochs=10**9,
    optimizer_cls="AdamW",
    optimizer_params={"weight_decay": WEIGHT_DECAY, "betas": BETAS},
    learning_rate=LEARNING_RATE,
    no_cuda=True,
)
BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=settings).train()
