"""The core: p(z | c), q(z | x, c), p(x | z, c), the objectives that train them and the evidence of data."""
