"""Training and inference in plain torch: knows nothing of experiments, plugins or folders of runs."""
