"""Environments of gymnax and Brax whose hidden parameters are the task: two examples."""
