"""The project: where data and jobs are. `python project.py` saves it as the Prefect block "my-block"."""

from blocks import SageMakerProject

# This machine. For AWS: SageMakerProject(project="my-project", bucket=…, region=…, image=…, role=…)
project = SageMakerProject.local("my-project")

if __name__ == "__main__":
    project.save("my-block", overwrite=True)
    print("Saved the block my-block. Next: python flow.py my-block")
