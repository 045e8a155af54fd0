# One node of p2pml. `docker build -t p2pml .`, then `docker run --rm p2pml demo`; compose.yaml starts a small network.
# BASE_IMAGE: any Debian bookworm with CPython 3.11.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# Without uv's cache the layer holds the dependencies once, not twice.
ENV UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 DEBIAN_FRONTEND=noninteractive
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends build-essential libgmp-dev python3-dev python3-venv \
 && python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet uv
WORKDIR /opt/p2pml
COPY pyproject.toml uv.lock .python-version README.md LICENSE ./
# The dependencies are a layer of their own: a change of the code does not install 2.4 GB again.
RUN /opt/uv/bin/uv sync --locked --no-dev --extra train --no-install-project
COPY chain chain
COPY torrent torrent
COPY p2pml p2pml
RUN /opt/uv/bin/uv sync --locked --no-dev --extra train --no-editable

FROM ${BASE_IMAGE}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libgmp10 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 p2pml \
 && mkdir /data && chown p2pml /data
COPY --from=build /opt/p2pml/.venv /opt/p2pml/.venv
ENV PATH=/opt/p2pml/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin P2PML_HOME=/data PYTHONUNBUFFERED=1
USER p2pml
WORKDIR /home/p2pml
VOLUME /data
EXPOSE 9470
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["p2pml", "status", "--json"]
ENTRYPOINT ["p2pml"]
CMD ["daemon"]
