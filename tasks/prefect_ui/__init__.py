"""What people see and start in Prefect's UI: tables, tags, the nightly summary, maintenance, approving promotions."""
