"""Logs where people already look: a run's numbers, recipe and pictures for TensorBoard, Weights & Biases or yours.

`contract` is what a logger is, `run_log` hands a run to some of them and outlives those that fail; `tensorboard` and
`wandb` are ours. Nothing that is logged is needed by a run: what counts is in its folder.
"""
