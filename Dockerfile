# syntax=docker/dockerfile:1
# The image of servers, workers and commands: `docker build -t walclock .`
#
# Built in one stage, carried over to another: the second has no pip, no compiler and no shell of ours, and what runs in
# it is nobody. Which Debian and which Python is pinned to the minor version, so security fixes of both still come.

FROM python:3.13-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY scheduler scheduler
COPY worker worker
COPY sql sql
# The wheels of psycopg, uvloop and the others bring what they need: nothing is compiled, no package of Debian is added.
# The version that the linter would like to see is this checkout's own.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/walclock \
    && pip --python /opt/walclock/bin/python install --no-cache-dir --no-compile '.[http,speed]'

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="walclock" \
      org.opencontainers.image.description="A write-ahead scheduler for PostgreSQL" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 walclock \
    && useradd --system --uid 10001 --gid walclock --home-dir /nonexistent --shell /usr/sbin/nologin walclock
COPY --from=build /opt/walclock /opt/walclock
COPY --chmod=555 deploy/healthy.py /opt/walclock/bin/healthy
ENV PATH=/opt/walclock/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SCHEDULER_LOG_FORMAT=json
WORKDIR /work
USER 10001:10001
# Of a server its /readyz, of a worker its /metrics: whichever of the two ports answers. What an orchestrator asks itself
# (deploy/kubernetes) does not need this.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["healthy"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["scheduler"]
CMD ["run", "--no-worker", "--http", "0.0.0.0:8080"]
EXPOSE 8080 9100
