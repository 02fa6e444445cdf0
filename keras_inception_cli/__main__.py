import sys

from keras_inception_cli import main

sys.exit(main())
