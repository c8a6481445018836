# The domain's analyses, which see all variants: tables/*.csv and metrics.json.


rule analyse:
    input:
        expand("state/encode/{variant}.json", variant=VARIANTS),
        settings="config/analyse.json",
    output:
        "state/analyse.json",
    log:
        "logs/analyse.log",
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * (1 + attempt),
        runtime=lambda wildcards, attempt: 60 * attempt,
    shell:
        "exec {SCIENCEVAE} analyse ."
        " --threads {threads}"
        " >> {log:q} 2>&1"
