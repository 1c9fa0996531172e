"""Training: losses, the optimizer, the pure step, checkpoints, the mesh and the loop."""
