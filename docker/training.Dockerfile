# The training-job image: `alnet train`, `alnet evaluate` and the rest of the command line but what needs the server.
#
#   docker build -f docker/training.Dockerfile -t alnet-training .
#   mkdir -p runs
#   docker run --rm --gpus all --shm-size 1g --user "$(id -u):$(id -g)" -v /my/data:/data:ro -v "$PWD/runs:/runs" \
#       -v "$PWD/model_store:/model_store" alnet-training train --data /data ...
#
# torch and --build-arg TORCH_INDEX_URL: as in ../Dockerfile.

FROM docker.io/library/python:3.11-slim-bookworm AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/venv

COPY constraints.txt ./
ARG TORCH_INDEX_URL=
RUN pip --python /opt/venv/bin/python install -c constraints.txt ${TORCH_INDEX_URL:+--no-deps --index-url "$TORCH_INDEX_URL"} torch
COPY pyproject.toml ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*project['dependencies'], *project['optional-dependencies']['train'], *project['optional-dependencies']['cpu'], *project['optional-dependencies']['quantize'], sep='\n')" > requirements.txt \
 && pip --python /opt/venv/bin/python install -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY service ./service
RUN pip --python /opt/venv/bin/python install --no-deps .


FROM docker.io/library/python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="alnet-training" \
      org.opencontainers.image.description="Trains, scores and publishes the checkpoints of alnet-service. Research use only." \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/venv /opt/venv
# The job writes to its mounts alone (its runs, and the model store when it publishes) and below /tmp. From / the paths
# data, runs and model_store mean the same as in a checkout.
WORKDIR /
RUN mkdir data runs model_store && chown 10001:10001 runs model_store
# USER is for libraries that ask who runs them: whoever does has a number, but no entry in /etc/passwd.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=alnet MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# The first process of a container ignores SIGTERM, as it has no handler; an interrupt ends a run with a word about it.
STOPSIGNAL SIGINT
ENTRYPOINT ["alnet"]
CMD ["train", "--help"]
