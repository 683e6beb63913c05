"""`clipsmith up` and `deploy`: the Prefect server, its worker, deployments, schedules and automations."""
