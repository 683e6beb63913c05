# The GPU image: a process worker on NVIDIA's TensorRT, which also measures latency and builds for the card it sees.
#
#     docker build -f docker/gpu.Dockerfile -t clipsmith:gpu .
#
# 25.12 brings TensorRT 10.14, CUDA 13 and Python 3.12. The base is pinned by tag. To pin the very bytes, look up the
# tag's digest and pass it:
#     docker buildx imagetools inspect nvcr.io/nvidia/tensorrt:25.12-py3
#     docker build --build-arg BASE=nvcr.io/nvidia/tensorrt:25.12-py3@sha256:DIGEST ...
ARG BASE=nvcr.io/nvidia/tensorrt:25.12-py3

FROM ${BASE} AS build
# Where to take a CUDA build of PyTorch from; empty takes torch from the package index like everything else.
ARG TORCH_INDEX=
# For pip, its isolated build environments included: every version is locked, those of the base's own list give way.
ENV PIP_CONSTRAINT=/src/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY constraints.txt ./
# torch comes first and alone: resolved together with packages that need it, pip may choose a CUDA build.
# The base's own tensorrt and pip are seen through --system-site-packages; what our lock names is installed over them.
RUN python3 -m venv --without-pip --system-site-packages /opt/clipsmith \
    && /opt/clipsmith/bin/python -m pip install --quiet ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} torch
COPY pyproject.toml README.md LICENSE ./
COPY artifacts ./artifacts
COPY tasks ./tasks
COPY flows ./flows
COPY deployments ./deployments
RUN /opt/clipsmith/bin/python -m pip install --quiet '.[container,rtx,s3]' \
    && /opt/clipsmith/bin/python -c "import tensorrt as t; assert (10, 14) <= tuple(map(int, t.__version__.split('.')[:2])) < (11,), t.__version__"

FROM ${BASE}
LABEL org.opencontainers.image.title="clipsmith" \
      org.opencontainers.image.description="CLIP checkpoints in, verified FP8 TensorRT engines out: GPU image" \
      org.opencontainers.image.licenses="Apache-2.0"
# Everything that anything writes lies under /var/lib/clipsmith or /tmp, so that the rest can be read-only.
ENV HOME=/var/lib/clipsmith \
    USER=clipsmith \
    PATH=/opt/clipsmith/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CLIPSMITH_WORKDIR=/var/lib/clipsmith \
    CLIPSMITH_STORE=/var/lib/clipsmith/store \
    PREFECT_HOME=/var/lib/clipsmith/prefect \
    PREFECT_SERVER_UI_STATIC_DIRECTORY=/var/lib/clipsmith/ui \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1 \
    PREFECT_WORKER_WEBSERVER_HOST=127.0.0.1 \
    PREFECT_WORKER_WEBSERVER_PORT=8080 \
    XDG_CACHE_HOME=/var/lib/clipsmith/cache \
    XDG_CONFIG_HOME=/var/lib/clipsmith/config \
    XDG_DATA_HOME=/var/lib/clipsmith/data \
    HF_HOME=/var/lib/clipsmith/cache/huggingface \
    MPLCONFIGDIR=/var/lib/clipsmith/cache/matplotlib \
    TORCH_HOME=/var/lib/clipsmith/cache/torch \
    TORCHINDUCTOR_CACHE_DIR=/var/lib/clipsmith/cache/inductor \
    TRITON_CACHE_DIR=/var/lib/clipsmith/cache/triton \
    CUDA_CACHE_PATH=/var/lib/clipsmith/cache/cuda \
    TMPDIR=/tmp \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build /opt/clipsmith /opt/clipsmith
# A fixed number, so that volumes, compose and Kubernetes can name it. A fresh named volume takes this folder's owner.
RUN install -d -o 10001 -g 10001 -m 0750 /var/lib/clipsmith
WORKDIR /var/lib/clipsmith
USER 10001:10001
VOLUME ["/var/lib/clipsmith"]
# Of the worker that CMD starts: 503 or no answer means that it has stopped asking the server for work.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PREFECT_WORKER_WEBSERVER_PORT']), timeout=5); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]
# dumb-init hands SIGTERM on to the worker and its flow runs, and reaps what killed runs leave behind.
ENTRYPOINT ["/opt/clipsmith/bin/dumb-init", "--"]
CMD ["prefect", "worker", "start", "--pool", "clipsmith", "--type", "process", "--with-healthcheck"]
