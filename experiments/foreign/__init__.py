"""Three examples of environments of gymnax and Brax whose hidden parameters are the task."""
