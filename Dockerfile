# syntax=docker/dockerfile:1.7
# Two images for x86-64; for a Jetson see Dockerfile.jetson.
#
#   docker build --target train   -t rmatk:train .      PyTorch with CUDA: train, eval, export, parity
#   docker build --target runtime -t rmatk:runtime .    no PyTorch: TensorRT for RTX, ONNX Runtime, cameras
#
#   docker run --rm --gpus all -v "$PWD:/data" rmatk:train train photos -o run
#   docker run --rm --gpus all -v "$PWD/bundle:/bundle" rmatk:runtime export /bundle --trt
#   docker run --rm --gpus all -v "$PWD/bundle:/bundle" --device /dev/video0 \
#       rmatk:runtime infer /bundle --camera /dev/video0 --jsonl -
#
# --gpus all needs NVIDIA's driver and container toolkit on the host; CUDA itself is in the images. The user inside
# is not root and has uid 1000: where yours is another, add --build-arg UID="$(id -u)", so that it may write what you
# mount. TensorRT for RTX serves desktop GPUs; for the data centre, start `base` from
# nvcr.io/nvidia/tensorrt:25.10-py3 instead, and make the venv with --system-site-packages. Neither has been tried on
# a GPU yet. Versions are pinned in docker/constraints.txt.

FROM python:3.11.14-slim-bookworm AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY rmatk rmatk
COPY export export
COPY runtime runtime
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm AS base
ARG UID=1000
ENV PATH=/opt/rmatk/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
RUN useradd --create-home --uid "$UID" --groups video rmatk && python3 -m venv /opt/rmatk
WORKDIR /data
ENTRYPOINT ["rmatk"]
CMD ["doctor"]
# Loads the bundle a second time for a moment: on little memory make the interval longer, or --no-healthcheck.
HEALTHCHECK --interval=10m --timeout=2m --start-period=2m \
    CMD ["sh", "-c", "if [ -e /bundle/manifest.json ]; then rmatk doctor /bundle; else rmatk doctor; fi"]

FROM base AS train
ARG UID=1000
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=docker/constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --constraint /constraints.txt \
    "$(echo /wheels/*.whl)[train,export,cpu,camera]"
USER $UID

FROM base AS runtime
ARG UID=1000
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=docker/constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --constraint /constraints.txt \
    "$(echo /wheels/*.whl)[rtx,cpu,camera,labels,web]"
USER $UID
