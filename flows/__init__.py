"""How steps are wired: parameters and the flows."""

from artifacts.inert import keep_logs_inert

keep_logs_inert()  # every process that runs a flow or a command imports this package
