"""The training loop: one path of three functions, gradients → reduce → update."""
