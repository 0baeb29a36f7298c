"""What the kernels and their twins have in common."""

NORM_EPS = 1e-5  #: of torch.nn.LayerNorm
