"""``histoflow up``: a Prefect server, its worker and the deployments, started, watched and ended together."""
