"""What is done in the latent space: encode, cluster, score, and look whether it is alive."""
