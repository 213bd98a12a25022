"""The networks: the `edge` and `paper` generators, the discriminator, the compact text encoder."""
