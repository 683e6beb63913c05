"""What Prefect's UI shows: tables, tags, the night's summary, and what a person sees who approves a promotion."""
