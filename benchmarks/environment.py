"""Where a benchmark ran, for every row that it writes."""

import datetime
import os
import platform


def environment() -> dict[str, str | int]:
    """Date, processor, cores, and the versions that figures depend on."""
    import keras
    import tensorflow as tf

    return {
        "date": datetime.date.today().isoformat(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "tensorflow": tf.__version__,
    }
