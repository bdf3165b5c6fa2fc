# Build: the pinned toolchain, nothing but the sources. Test its steps by hand with the same commands on Debian 12.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY .cargo .cargo
COPY src src
COPY benches benches
COPY tests tests
RUN cargo build --release --locked && install -D target/release/meridian /out/usr/bin/meridian \
 && install -d -o 65532 -g 65532 /out/var/lib/meridian

# Run: glibc and root certificates, no shell, not root (65532 is distroless' "nonroot").
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/usr/bin/meridian /usr/bin/meridian
COPY --from=build --chown=65532:65532 /out/var/lib/meridian /var/lib/meridian
# The sample; mount your own over it. Ports above 1024, so that no capability is needed: publish 53 onto 5300.
COPY zones /etc/meridian/zones
COPY geodata /etc/meridian/geodata
COPY packaging/container.toml /etc/meridian/meridian.toml
WORKDIR /etc/meridian
VOLUME /var/lib/meridian
EXPOSE 5300/udp 5300/tcp 8053/tcp
USER 65532:65532
ENTRYPOINT ["/usr/bin/meridian"]
CMD ["run", "--config", "/etc/meridian/meridian.toml"]
