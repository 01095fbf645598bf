# The tests and the smoke run in a container without a GPU:
#   docker build -f docker/cpu.Dockerfile -t samerun-cpu . && docker run --rm samerun-cpu
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv
WORKDIR /samerun
COPY . .
RUN uv sync
CMD ["sh", "-c", "uv run launch jobspecs/smoke.yaml && uv run pytest"]
