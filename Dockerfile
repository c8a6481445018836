# sciencevae with the versions that are tested together, for CPUs:
#
#   docker build -t sciencevae .
#   docker run --rm -v "$PWD":/work sciencevae run xy --out runs/xy
#
# For NVIDIA GPUs give the index with torch's build for your CUDA (pytorch.org names it), and run with --gpus all:
#
#   docker build --build-arg TORCH_INDEX=URL -t sciencevae:gpu .
#
# Without TORCH_INDEX torch is the build that your package index gives by default.
FROM python:3.11-slim

ARG TORCH_INDEX=""
# g++: torch.compile makes code for the CPU with it
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/sciencevae
COPY . .
RUN if [ -n "$TORCH_INDEX" ]; then \
        python -m pip install --no-cache-dir --constraint constraints.txt --index-url "$TORCH_INDEX" torch; \
    fi \
    && python -m pip install --no-cache-dir --constraint constraints.txt torch '.[slurm]' \
    && python -m pip check

# nobody's files but the user's: name yours with --user "$(id -u):$(id -g)"
RUN useradd --create-home --uid 1000 scientist && mkdir /work && chown scientist /work
USER scientist
ENV HOME=/home/scientist SCIENCEVAE_CACHE=/work/.sciencevae-cache
WORKDIR /work
ENTRYPOINT ["sciencevae"]
CMD ["--help"]
