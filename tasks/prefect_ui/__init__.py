"""What people see and start in Prefect's UI: tables, tags, the night's summary, upkeep, and approving a promotion."""
