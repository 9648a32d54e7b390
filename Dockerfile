# Two images from one file:
#   docker build --target agent  -t wattlog-agent .     agent of a node: readings to the log. No warehouse, no Faust.
#   docker build --target server -t wattlog-server .    everything: worker, API, migrations, replays.
# Both run as user 10001 with a read-only root, and write only to /var/lib/wattlog and /tmp.

# The base image is fixed by its name only: whoever builds for production names it by digest as well:
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim-bookworm@sha256:... --target server ...
# `docker buildx imagetools inspect python:3.13-slim-bookworm` shows the digest. All packages are fixed by hash (pins/).
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pins pins
RUN python -m venv /opt/wattlog && pip install --require-hashes -r pins/build.txt

# Dependencies come first, so that a change of our code rebuilds only the last, small layers.
FROM build AS build-agent
RUN --mount=type=cache,target=/root/.cache/pip /opt/wattlog/bin/pip install --require-hashes -r pins/agent.txt
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . && /opt/wattlog/bin/pip install --no-deps --no-index /dist/*.whl

FROM build AS build-server
RUN --mount=type=cache,target=/root/.cache/pip /opt/wattlog/bin/pip install --require-hashes -r pins/server.txt
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . && /opt/wattlog/bin/pip install --no-deps --no-index /dist/*.whl

FROM ${PYTHON_IMAGE} AS run
RUN groupadd --system --gid 10001 wattlog \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/wattlog --shell /usr/sbin/nologin wattlog \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/wattlog
ENV PATH=/opt/wattlog/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    ARROW_DEFAULT_MEMORY_POOL=system \
    WATTLOG_DATA=/var/lib/wattlog
USER 10001:10001
WORKDIR /var/lib/wattlog
STOPSIGNAL SIGTERM
ENTRYPOINT ["wattlog"]
CMD ["--help"]
LABEL org.opencontainers.image.title="wattlog" \
      org.opencontainers.image.description="An energy ledger for AI inference fleets" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM run AS agent
COPY --from=build-agent /opt/wattlog /opt/wattlog
# The NVIDIA container runtime mounts the management library and every GPU of the node.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=utility \
    WATTLOG_METRICS_PORT=9464 \
    HEALTH_URL=http://127.0.0.1:9464/metrics
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['HEALTH_URL'], timeout=4)"]

FROM run AS server
COPY --from=build-server /opt/wattlog /opt/wattlog
# Address of the API; a worker sets HEALTH_URL to its own /metrics.
ENV HEALTH_URL=http://127.0.0.1:8787/healthz
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['HEALTH_URL'], timeout=4)"]
