"""What is kept, and the words for it: references, manifests, tables, errors. No torch, no TensorRT, no Prefect."""
