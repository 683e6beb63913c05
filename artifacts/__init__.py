"""What is kept: references, manifests, the store, tables and reports. No torch, no TensorRT, no Prefect here."""
