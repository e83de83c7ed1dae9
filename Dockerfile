# The primary scoring environment of eeg2025 with `rtserve check` beside it. Untried: nobody has built this image yet.
#   docker build -t rtserve-eeg2025 .
#   docker run --rm --network none -v "$PWD/dist:/zips:ro" rtserve-eeg2025 check /zips/submission.zip --env /envs/primary
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap gcc binutils libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=python:3.10-slim /usr/local /opt/python3.10
ENV LD_LIBRARY_PATH=/opt/python3.10/lib
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md constraints.txt ./
COPY rtserve ./rtserve
RUN pip install --no-cache-dir -c constraints.txt .
RUN rtserve env create eeg2025 --path /envs --only primary --python /opt/python3.10/bin/python3.10
ENTRYPOINT ["rtserve"]
