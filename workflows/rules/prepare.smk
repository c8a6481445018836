# Raw files → one Zarr store in the shared schema. Variants with equal data settings share it.


def raw_files(wildcards):
    """The record of the raw files; none for a user's own input."""
    keys = VARIANTS[variant_with("prepare")(wildcards)]
    return f"state/{keys['source']}/{keys['fetch']}.json" if keys["fetch"] else []


rule prepare:
    input:
        raw_files,
        settings="config/prepare/{key}.json",
    output:
        "state/prepare/{key}.json",
    log:
        "logs/prepare/{key}.log",
    params:
        variant=variant_with("prepare"),
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * (1 + attempt),
        runtime=lambda wildcards, attempt: 60 * attempt,
    shell:
        "exec {SCIENCEVAE} prepare ."
        " --variant {params.variant:q}"
        " --threads {threads}"
        " {DASK}"
        " >> {log:q} 2>&1"
