# The serving image: `alnet serve` and nothing that trains.
#
#   docker build -t alnet-service .
#
# torch comes from the ordinary package index, which on Linux means its CUDA build: what a GPU host wants. For a CPU-only
# image, a tenth of the size, pass the index of torch's CPU wheels: --build-arg TORCH_INDEX_URL=<that index>

FROM docker.io/library/python:3.11-slim-bookworm AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Without pip inside: what runs in the final image cannot install anything into this environment.
RUN python -m venv --without-pip /opt/venv

# From what changes least to what changes most, so that an edit of the code rebuilds only the last, small layers.
COPY constraints.txt ./
# What torch needs comes with the rest: an index of torch has not every release of it.
ARG TORCH_INDEX_URL=
RUN pip --python /opt/venv/bin/python install -c constraints.txt ${TORCH_INDEX_URL:+--no-deps --index-url "$TORCH_INDEX_URL"} torch
COPY pyproject.toml ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*project['dependencies'], *project['optional-dependencies']['serve'], *project['optional-dependencies']['cpu'], sep='\n')" > requirements.txt \
 && pip --python /opt/venv/bin/python install -c constraints.txt -r requirements.txt
# Readable for whoever runs the image, whatever the umask of the checkout.
COPY model_store /model_store
RUN chmod -R a+rX /model_store
COPY README.md LICENSE ./
COPY service ./service
RUN pip --python /opt/venv/bin/python install --no-deps .


FROM docker.io/library/python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="alnet-service" \
      org.opencontainers.image.description="Segments medical images over HTTP. Research use only." \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY --from=build /model_store ./model_store

# The root file system may be read-only: nothing is written but below /tmp. USER is for libraries that ask who runs them:
# whoever does has a number, but no entry in /etc/passwd.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp USER=alnet PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ALNET_HOST=0.0.0.0 ALNET_PORT=8000 ALNET_STORE=/app/model_store
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Starting means loading, checking and warming up every checkpoint, hence the long start period. http.client rather than
# urllib.request: an http_proxy in the environment must not catch a question to ourselves.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['ALNET_PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
# Exec form: the server is process 1 and gets SIGTERM itself.
CMD ["alnet", "serve"]
