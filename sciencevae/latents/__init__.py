"""What is done in the latent space: encode, walk, cluster, score, disentangle, and look whether it is alive."""
