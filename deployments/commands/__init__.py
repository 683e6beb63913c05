"""The commands, one module per subject; `deployments.cli` puts them together and adds `optimize`."""
