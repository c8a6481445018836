"""Pythae's VAE, or VAMP where the problem says so, under its BaseTrainer.

OPTION  train · sample: no training; draws images with the sampler that Pythae has for the problem's prior
"""

import logging
import tempfile

import torch
from pace import BETAS, DRAWN, LEARNING_RATE, PRIORS, WEIGHT_DECAY, data, start
from plain import decoder, encoder
from pythae import samplers
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAMP, VAEConfig, VAMPConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig

problem, option, pace = start("pythae")

logging.disable(logging.INFO)

gaussian = problem["likelihood"] == "gaussian"
prior = problem.get("prior", "standard")


class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.network = encoder(problem)

    def forward(self, x):
        mean, log_variance = self.network(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.network = decoder(problem)

    def forward(self, z):
        y = self.network(z)
        return ModelOutput(reconstruction=y if gaussian else y.sigmoid())


class Measured(VAMP if prior == "vamp" else VAE):
    def forward(self, inputs, **kwargs):
        pace()
        return super().forward(inputs, **kwargs)


def build(x):
    shared = {
        "input_dim": tuple(x.shape[1:]),
        "latent_dim": problem["latent"],
        "reconstruction_loss": "mse" if gaussian else "bce",
    }
    if prior == "vamp":
        config = VAMPConfig(**shared, number_components=PRIORS[prior])
    else:
        config = VAEConfig(**shared)
    # for images without convolutions its own default perceptrons, which have these sizes
    own = gaussian or "channels" in problem
    return Measured(config, Encoder(), Decoder()) if own else Measured(config)


def sampler_of(model, x):
    if prior == "vamp":
        return samplers.VAMPSampler(model)
    if prior == "mixture":
        config = samplers.GaussianMixtureSamplerConfig(n_components=PRIORS[prior])
        sampler = samplers.GaussianMixtureSampler(model, config)
        sampler.fit(x[:2000])  # enough: what is drawn takes the same time
        return sampler
    if prior == "affine":
        sampler = samplers.MAFSampler(model)
        sampler.maf_model, sampler.is_fitted = sampler.flow_contained_model.flow, True
        return sampler
    return samplers.NormalSampler(model)


x = data(problem)
if option == "sample":
    pace.warm_up = float("inf")  # fitting a sampler calls the model
    sampler = sampler_of(build(x).eval(), x)
    pace.warm_up = 5
    with torch.no_grad():
        while True:
            sampler.sample(DRAWN, batch_size=DRAWN)
            pace()
settings = BaseTrainerConfig(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=problem["batch"],
    num_epochs=10**9,
    optimizer_cls="AdamW",
    optimizer_params={"weight_decay": WEIGHT_DECAY, "betas": BETAS},
    learning_rate=LEARNING_RATE,
    no_cuda=True,
)
BaseTrainer(build(x), BaseDataset(x, torch.zeros(len(x))), training_config=settings).train()
