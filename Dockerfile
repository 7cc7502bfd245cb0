# syntax=docker/dockerfile:1
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release && cp target/release/pgdrover /pgdrover

FROM debian:bookworm-slim
# The authorities that `server_tls_mode = "verify-full"` trusts unless told otherwise.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home pgdrover
COPY --from=build /pgdrover /usr/local/bin/pgdrover
USER pgdrover
EXPOSE 6432 9632
STOPSIGNAL SIGTERM
# The image has no HTTP client; bash can speak enough of it.
HEALTHCHECK --interval=5s --timeout=2s --start-period=10s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/9632 && printf 'GET /livez HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["pgdrover"]
CMD ["serve", "-c", "/etc/pgdrover/pgdrover.toml"]
