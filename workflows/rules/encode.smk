# All samples through the encoder, block by block: memory does not grow with the data.


rule encode:
    input:
        "state/train/{variant}.json",
        settings="config/{variant}/encode.json",
    output:
        "state/encode/{variant}.json",
    log:
        "logs/encode/{variant}.log",
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * (1 + attempt),
        runtime=lambda wildcards, attempt: 60 * attempt,
    shell:
        "exec {SCIENCEVAE} encode ."
        " --variant {wildcards.variant:q}"
        " --threads {threads}"
        " {DASK}"
        " >> {log:q} 2>&1"
