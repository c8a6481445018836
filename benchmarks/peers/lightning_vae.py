"""The plain VAE under Lightning's Trainer.

OPTION  logging: three terms logged at each step, CSV logger, progress bar; checkpoints at the end of an epoch
        quiet: none of these
        batched: quiet, and the data set is indexed by whole batches instead of row by row
"""

import logging
import tempfile
import warnings

import pytorch_lightning as pl
import torch
from pace import BETAS, LEARNING_RATE, WEIGHT_DECAY, data, start
from plain import Plain
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

problem, option, pace = start("pytorch-lightning")

warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.vae = Plain(problem)

    def training_step(self, batch, index):
        pace()
        loss, reconstruction, kl = self.vae(batch[0])
        if option == "logging":
            self.log_dict({"loss": loss, "reconstruction": reconstruction, "kl": kl}, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(
            self.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=BETAS, fused=True
        )


rows = TensorDataset(data(problem))
if option == "batched":
    sampler = BatchSampler(RandomSampler(rows), problem["batch"], drop_last=False)
    loader = DataLoader(rows, sampler=sampler, batch_size=None)
else:
    loader = DataLoader(rows, batch_size=problem["batch"], shuffle=True)
verbose = option == "logging"
folder = tempfile.mkdtemp()
trainer = pl.Trainer(
    max_epochs=-1,
    accelerator="cpu",
    logger=CSVLogger(folder) if verbose else False,
    enable_progress_bar=verbose,
    enable_checkpointing=verbose,
    enable_model_summary=False,
    default_root_dir=folder,
)
trainer.fit(Module(), loader)
