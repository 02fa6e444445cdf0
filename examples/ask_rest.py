"""Ask a served model about picture files over REST, with the standard library alone.

Works with TF Serving and with `keras-inception serve`:

python examples/ask_rest.py http://127.0.0.1:8501/v1/models/digits five.png nine.png
"""

import base64
import json
import sys
import urllib.request
from pathlib import Path


def main(url: str, *files: str) -> None:
    # One request for all pictures. JSON carries bytes as {"b64": ...}, in base64's
    # standard alphabet; the server decodes it before the model sees it.
    instances = [
        {"image_bytes": {"b64": base64.b64encode(Path(file).read_bytes()).decode()}}
        for file in files
    ]
    body = json.dumps({"signature_name": "serving_bytes", "instances": instances})
    request = urllib.request.Request(f"{url}:predict", body.encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        predictions = json.load(response)["predictions"]
    for file, prediction in zip(files, predictions, strict=True):
        print(f"{file}: {prediction['classes'][0]} ({prediction['scores'][0]:.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
