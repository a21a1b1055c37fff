"""FedAvg and a last step at home: T. Yu, E. Bagdasaryan, V. Shmatikov, Salvaging Federated Learning, 2020."""

from pydantic import Field

from fedpolyp.algorithms.base import Algorithm
from fedpolyp.section import Section


class FineTune(Algorithm):
    """FedAvg; after the last round each hospital trains the model once more for itself.

    Its test images are scored with this model, too: the models `own` in images.csv, `own_test_dice` in the last round's
    record. The model is not sent.
    """

    fine_tunes = True

    class Settings(Section):
        """Of `[algorithm]`."""

        own_epochs: int = Field(1, ge=1, le=1000, description="Fine-tuning: local epochs after the last round")
        own_rate: float = Field(
            0.1, gt=0, le=1, description="Fine-tuning: its learning rate, as a fraction of the first round's"
        )
