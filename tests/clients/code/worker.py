"""A worker of simple-sagemaker that uses its own library."""

from pathlib import Path

from worker_toolkit import worker_lib

config = worker_lib.WorkerConfig()
print(f"worked={config.hps['rate']}; rank={config.host_rank} of {config.num_nodes}; channels={config.channels};")
Path(config.state, config.current_host, "kept.txt").write_text(config.current_host)
