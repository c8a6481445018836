"""What is done in the latent space: encode, walk, cluster, score, measure disentanglement, look whether it is alive."""
