"""Slips in a student's own code, as people report them: an experiment file, its settings, and what the single line must say.

Their sources are in `experiments/benchmarks/field_reports.md`.
"""

HEAD = """import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from pbl import Config
from pbl.callbacks import CALLBACKS
from pbl.models import MODELS

"""

# A small network that works, to which a slip is added.
CHAIN = "    x = layers.Flatten()(layers.Rescaling(1 / 255)(images))\n"
END = "    return keras.Model(images, layers.Dense(num_classes, activation='softmax', dtype='float32')(x))\nMODELS['mine'] = mine\n"
BEGIN = "def mine(input_shape, num_classes):\n    images = keras.Input(input_shape)\n"


def network(lines: str) -> str:
    return BEGIN + "".join(f"    {line}\n" for line in lines.splitlines()) + END


def subclass(call: str, made: str = "") -> str:
    """A subclassed model, whose `call` and `__init__` have these lines too."""
    return (
        "class Mine(keras.Model):\n    def __init__(self, n):\n        super().__init__()\n"
        "        self.scale, self.flat = layers.Rescaling(1 / 255), layers.Flatten()\n"
        "        self.out = layers.Dense(n, activation='softmax', dtype='float32')\n"
        + "".join(f"        {line}\n" for line in made.splitlines())
        + "    def call(self, x):\n"
        + "".join(f"        {line}\n" for line in call.splitlines())
        + "MODELS['mine'] = lambda input_shape, num_classes: Mine(num_classes)\n"
    )


def callback(lines: str) -> str:
    return (
        "class Mine(keras.callbacks.Callback):\n"
        + "".join(f"    {line}\n" for line in lines.splitlines())
        + "CALLBACKS['cb'] = Mine\n"
    )


def compiled(compiling: str) -> str:
    return (
        BEGIN
        + CHAIN
        + "    model = keras.Model(images, layers.Dense(num_classes, activation='softmax', dtype='float32')(x))\n"
        + f"    model.compile({compiling})\n    return model\nMODELS['mine'] = mine\n"
    )


# Settings for a model of one's own, and for a callback of one's own.
OWN, BACK = 'model="mine"', 'model="mlp", callbacks=["cb"]'

SLIPS = {
    # models
    "uint8_into_convolution": (subclass("return self.out(self.flat(self.c(x)))", "self.c = layers.Conv2D(8, 3)"), OWN, 'Begin with layers.Rescaling(1 / 255)'),
    "uint8_into_batch_normalisation": (subclass("return self.out(self.flat(self.b(x)))", "self.b = layers.BatchNormalization()"), OWN, 'Begin with layers.Rescaling(1 / 255)'),
    "uint8_divided_by_float_tensor": (subclass("return self.out(self.flat(x / tf.constant(255.0)))"), OWN, 'Begin with layers.Rescaling(1 / 255)'),
    "fixed_input_shape": ('MODELS["mine"] = lambda input_shape, num_classes: keras.Sequential([keras.Input((224, 224, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(num_classes, activation="softmax")])\n', OWN, 'is built for images of 224x224x1; these are 8x8x1'),
    "fixed_input_shape_in_layer": ('MODELS["mine"] = lambda input_shape, num_classes: keras.Sequential([layers.Rescaling(1 / 255, input_shape=(28, 28, 1)), layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(num_classes, activation="softmax")])\n', OWN, 'is built for images of 28x28x1; these are 8x8x1'),
    "channels_first": ('MODELS["mine"] = lambda input_shape, num_classes: keras.Sequential([keras.Input((1, 8, 8)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(num_classes, activation="softmax")])\n', OWN, 'is built for images of 1x8x8; these are 8x8x1'),
    "pooled_to_nothing": ('MODELS["mine"] = lambda input_shape, num_classes: keras.Sequential([keras.Input(input_shape)] + [layer for _ in range(4) for layer in (layers.Conv2D(8, 3), layers.MaxPooling2D())] + [layers.Flatten(), layers.Dense(num_classes, activation="softmax")])\n', OWN, 'too small for this network'),
    "pooled_to_nothing_unbuilt": ('MODELS["mine"] = lambda input_shape, num_classes: keras.Sequential([layers.Rescaling(1 / 255)] + [layer for _ in range(4) for layer in (layers.Conv2D(8, 3), layers.MaxPooling2D())] + [layers.Flatten(), layers.Dense(num_classes, activation="softmax")])\n', OWN, 'too small for this network'),
    "kernel_larger_than_image": (network("x = layers.Conv2D(8, 11, strides=4)(images)\nx = layers.Flatten()(x)"), OWN, 'too small for this network'),
    "undefined_name": (network("x = Flaten()(images)"), OWN, "NameError: name 'Flaten' is not defined"),
    "removed_layer": (network("x = layers.Convolution2d(8, 3)(images)"), OWN, "has no attribute 'Convolution2d'"),
    "wrong_number_of_arguments": ("def mine(input_shape):\n    return keras.Sequential([keras.Input(input_shape)])\nMODELS['mine'] = mine\n", OWN, 'must take (input_shape, num_classes)'),
    "a_model_in_place_of_a_builder": ("MODELS['mine'] = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, activation='softmax')])\n", OWN, 'is a Sequential. Add a function'),
    "call_without_return": (subclass("self.out(self.flat(self.scale(x)))"), OWN, 'The call() of Mine returns nothing'),
    "super_init_forgotten": ("class Mine(keras.Model):\n    def __init__(self, n):\n        self.out = layers.Dense(n, activation='softmax')\n    def call(self, x):\n        return self.out(x)\nMODELS['mine'] = lambda input_shape, num_classes: Mine(num_classes)\n", OWN, 'does not call super().__init__()'),
    "layers_as_a_name": (subclass("return self.out(self.flat(self.scale(x)))", "self.layers = [self.scale, self.flat]"), OWN, '`Model.layers` attribute is reserved'),
    "call_with_training_missing": (subclass("return self.out(self.d(self.flat(self.scale(x)), training=training))", "self.d = layers.Dropout(0.5)"), OWN, "name 'training' is not defined"),
    "layer_made_in_call": (subclass("return layers.Dense(10, activation='softmax')(self.flat(self.scale(x)))"), OWN, 'created again with each call'),
    "python_if_on_a_tensor": (subclass("x = self.flat(self.scale(x))\nif ops.max(x) > 1:\n    x = x / 255\nreturn self.out(x)"), OWN, 'keras.ops.where or keras.ops.cond'),
    "numpy_in_call": (subclass("return self.out(np.reshape(self.scale(x), (-1, 64)))"), OWN, 'a function of NumPy or scikit-learn is given a tensor'),
    "tensorflow_on_a_keras_tensor": (network("x = tf.nn.relu(images)\nx = layers.Flatten()(x)"), OWN, 'which has no values yet. Use a layer or keras.ops'),
    "shapes_do_not_add": (network("x = layers.Conv2D(8, 3)(images)\nx = layers.Add()([x, images])\nx = layers.Flatten()(x)"), OWN, 'maps of (6, 6, 8) and (8, 8, 1) are added'),
    "channels_do_not_add": (network("a = layers.Conv2D(8, 3, padding='same')(images)\nb = layers.Conv2D(16, 3, padding='same')(images)\nx = layers.Flatten()(layers.Add()([a, b]))"), OWN, 'maps of (8, 8, 8) and (8, 8, 16) are added'),
    "concatenated_sizes": (network("a = layers.Conv2D(8, 3, padding='same')(images)\nb = layers.Conv2D(8, 3)(images)\nx = layers.Flatten()(layers.Concatenate()([a, b]))"), OWN, 'maps of different height or width are joined'),
    "convolution_after_flatten": (network("x = layers.Flatten()(images)\nx = layers.Conv2D(8, 3)(x)"), OWN, 'Is there a Flatten or Dense before it?'),
    "reshape_of_other_size": (network("x = layers.Reshape((28, 28, 1))(images)\nx = layers.Flatten()(x)"), OWN, 'the shape does not fit the values'),
    "unknown_activation": (network("x = layers.Flatten()(images)\nx = layers.Dense(16, activation='leakyrelu')(x)"), OWN, 'activation function identifier: leakyrelu'),
    "dropout_in_percent": (network("x = layers.Flatten()(images)\nx = layers.Dropout(50)(x)"), OWN, 'Received: rate=50'),
    "padding_misspelt": (network("x = layers.Conv2D(8, 3, padding='same ')(images)\nx = layers.Flatten()(x)"), OWN, '`padding` argument must be'),
    "unknown_argument": (network("x = layers.Conv2D(8, 3, stride=2)(images)\nx = layers.Flatten()(x)"), OWN, "Conv2D has no argument 'stride'"),
    "old_model_arguments": ("def mine(input_shape, num_classes):\n    images = keras.Input(input_shape)\n    x = layers.Dense(num_classes, activation='softmax')(layers.Flatten()(images))\n    return keras.Model(input=images, output=x)\nMODELS['mine'] = mine\n", OWN, "has no argument 'input'"),
    "graph_disconnected": ("def mine(input_shape, num_classes):\n    images, other = keras.Input(input_shape), keras.Input(input_shape)\n    x = layers.Dense(num_classes, activation='softmax')(layers.Flatten()(images))\n    return keras.Model(other, x)\nMODELS['mine'] = mine\n", OWN, 'outputs are not computed from its inputs'),
    "same_name_twice": (network("x = layers.Flatten()(images)\nx = layers.Dense(8, name='a')(x)\nx = layers.Dense(8, name='a')(x)"), OWN, '"a" is used 2 times'),
    "two_inputs": ("def mine(input_shape, num_classes):\n    a, b = keras.Input(input_shape), keras.Input(input_shape)\n    x = layers.Dense(num_classes, activation='softmax', dtype='float32')(layers.Flatten()(layers.Add()([a, b])))\n    return keras.Model([a, b], x)\nMODELS['mine'] = mine\n", OWN, 'a model with 2 inputs'),
    "size_not_known_to_dense": ("def mine(input_shape, num_classes):\n    images = keras.Input((None, None, 1))\n    x = layers.Dense(num_classes, activation='softmax')(layers.Flatten()(images))\n    return keras.Model(images, x)\nMODELS['mine'] = mine\n", OWN, 'Begin with keras.Input(input_shape)'),
    "pretrained_on_grey_images": ("def mine(input_shape, num_classes):\n    base = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=input_shape)\n    x = layers.Dense(num_classes, activation='softmax')(layers.GlobalAveragePooling2D()(base.output))\n    return keras.Model(base.input, x)\nMODELS['mine'] = mine\n", OWN, 'Set image_size=32'),
    "resnet50_too_small": ("def mine(input_shape, num_classes):\n    return keras.applications.ResNet50(weights=None, input_shape=input_shape, classes=num_classes)\nMODELS['mine'] = mine\n", OWN, 'Set image_size=32'),
    "own_layer_wrong_matrix": ("class Mix(layers.Layer):\n    def build(self, shape):\n        self.w = self.add_weight(shape=(32, 16))\n    def call(self, x):\n        return ops.matmul(x, self.w)\n" + network("x = Mix()(layers.Flatten()(images))"), OWN, 'the sizes 64 and 32 must be equal'),
    "own_layer_weight_by_name": ("class Mix(layers.Layer):\n    def build(self, shape):\n        self.w = self.add_weight('w', (shape[-1], 16))\n    def call(self, x):\n        return ops.matmul(x, self.w)\n" + network("x = Mix()(layers.Flatten()(images))"), OWN, 'add_weight takes the shape first'),
    "batch_size_in_the_model": (subclass("x = ops.reshape(self.scale(x), (32, 64))\nreturn self.out(x)"), OWN, 'Write -1 for the number of images'),
    # the student's own compile, loss, step
    "one_hot_loss_of_numbers": (compiled("'adam', 'categorical_crossentropy', metrics=['accuracy']"), OWN, 'loss takes one-hot labels'),
    "sparse_loss_of_one_hot": (compiled("'adam', 'sparse_categorical_crossentropy', metrics=['accuracy']"), OWN + ', loss="categorical_crossentropy"', 'loss takes class numbers'),
    "binary_loss_of_ten": (compiled("'adam', 'binary_crossentropy', metrics=['accuracy']"), OWN, 'the labels of fit are class numbers'),
    "from_logits_after_softmax": (compiled("'adam', keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=['accuracy']"), OWN, 'Remove from_logits=True'),
    "loss_misspelt": (compiled("'adam', 'sparse_categorical_cross_entropy'"), OWN, 'loss identifier: sparse_categorical_cross_entropy'),
    "metric_misspelt": (compiled("'adam', 'sparse_categorical_crossentropy', metrics=['acuracy']"), OWN, 'metric identifier: acuracy'),
    "optimizer_with_lr": (compiled("keras.optimizers.Adam(lr=0.001), 'sparse_categorical_crossentropy'"), OWN, 'learning_rate, not lr'),
    "loss_of_numpy": ("def loss(y, p):\n    return np.mean((np.eye(10)[y] - p) ** 2)\n" + compiled("'adam', loss"), OWN, 'a function of NumPy or scikit-learn is given a tensor'),
    "loss_of_wrong_shapes": ("def loss(y, p):\n    return ops.mean(ops.square(ops.one_hot(y, 7) - p))\n" + compiled("'adam', loss"), OWN, 'the sizes 7 and 10 must be equal'),
    "metric_of_sklearn": ("from sklearn.metrics import f1_score\ndef f1(y, p):\n    return f1_score(y, ops.argmax(p, axis=1), average='macro')\n" + compiled("'adam', 'sparse_categorical_crossentropy', metrics=[f1]"), OWN, 'a function of NumPy or scikit-learn is given a tensor'),
    "loss_without_return": ("def loss(y, p):\n    ops.mean(p)\n" + compiled("'adam', loss"), OWN, 'Does it end with `return`?'),
    "keras_2_train_step": (subclass("return self.out(self.flat(self.scale(x)))").replace("    def call", "    def train_step(self, data):\n        x, y = data\n        with tf.GradientTape() as tape:\n            p = self(x, training=True)\n            loss = self.compiled_loss(y, p, regularization_losses=self.losses)\n        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)\n        return {m.name: m.result() for m in self.metrics}\n    def call"), OWN, "this is from Keras 2"),
    "test_step_that_fails": (subclass("return self.out(self.flat(self.scale(x)))").replace("    def call", "    def test_step(self, data):\n        x, y, w = data\n        return {'loss': 0.0}\n    def call"), OWN, 'not enough values to unpack'),
    "labels_beyond_the_outputs": ("def loss(y, p):\n    return ops.mean(-ops.log(tf.gather(p, y + 5, axis=1, batch_dims=1) + 1e-7))\n" + compiled("'adam', loss"), OWN, "'indices' has DataType float32"),
    # callbacks
    "scheduler_on_schedule": ('CALLBACKS["cb"] = lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9)\n', BACK + ', learning_rate_schedule="cosine"', 'LearningRateScheduler sets the learning rate itself: set learning_rate_schedule=constant'),
    "rate_set_on_schedule": (callback("def on_epoch_begin(self, epoch, logs=None):\n    self.model.optimizer.learning_rate = 1e-4"), BACK + ', learning_rate_schedule="cosine"', 'Set learning_rate_schedule=constant'),
    "schedule_gives_no_float": ('CALLBACKS["cb"] = lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: 1)\n', BACK, 'should be a float. Got: 1'),
    "monitor_not_there": ('CALLBACKS["cb"] = lambda: keras.callbacks.EarlyStopping(monitor="val_acc")\n', BACK, "nothing is logged under 'val_acc'. Did you mean 'val_accuracy'?"),
    "monitor_not_there_max": ('CALLBACKS["cb"] = lambda: keras.callbacks.EarlyStopping(monitor="val_acc", mode="max", patience=3)\n', BACK, "nothing is logged under 'val_acc'. Did you mean 'val_accuracy'?"),
    "checkpoint_of_val_acc": ('CALLBACKS["cb"] = lambda: keras.callbacks.ModelCheckpoint("best.keras", monitor="val_acc", mode="max", save_best_only=True)\n', BACK, "nothing is logged under 'val_acc'. Did you mean 'val_accuracy'?"),
    "plateau_of_val_acc": ('CALLBACKS["cb"] = lambda: keras.callbacks.ReduceLROnPlateau(monitor="val_acc", mode="max")\n', BACK, "nothing is logged under 'val_acc'. Did you mean 'val_accuracy'?"),
    "monitor_mode_not_known": ('CALLBACKS["cb"] = lambda: keras.callbacks.EarlyStopping(monitor="val_probe_accuracy")\n', BACK, "Give it mode='max' or mode='min'"),
    "checkpoint_without_ending": ('CALLBACKS["cb"] = lambda: keras.callbacks.ModelCheckpoint("best")\n', BACK, 'must end in `.keras`'),
    "checkpoint_by_old_argument": ('CALLBACKS["cb"] = lambda: keras.callbacks.ModelCheckpoint("best.keras", period=5)\n', BACK, "unexpected keyword argument 'period'"),
    "callback_class_with_arguments": ('CALLBACKS["cb"] = keras.callbacks.ModelCheckpoint\n', BACK, 'cannot be called without arguments'),
    "callback_object": ('CALLBACKS["cb"] = keras.callbacks.EarlyStopping(patience=3)\n', BACK, 'cannot be called without arguments'),
    "patience_as_a_word": ('CALLBACKS["cb"] = lambda: keras.callbacks.EarlyStopping(patience="5")\n', BACK, "patience='5' must be a number"),
    "csv_into_no_folder": ('CALLBACKS["cb"] = lambda: keras.callbacks.CSVLogger("no/such/folder/log.csv", append=True)\n', BACK, 'no/such/folder/log.csv'),
    "callback_without_logs": (callback("def on_epoch_end(self, epoch):\n    pass"), BACK, 'takes 2 positional arguments but 3 were given'),
    "log_not_there": (callback("def on_epoch_end(self, epoch, logs=None):\n    print(logs['val_acc'])"), BACK, "nothing is logged under 'val_acc'. Did you mean 'val_accuracy'?"),
    "optimizer_lr": (callback("def on_epoch_end(self, epoch, logs=None):\n    print(self.model.optimizer.lr)"), BACK, 'learning_rate, not lr'),
    "validation_data_of_keras_1": (callback("def on_epoch_end(self, epoch, logs=None):\n    x, y = self.validation_data[0], self.validation_data[1]"), BACK, 'no longer gives validation data to callbacks'),
    "file_not_there": (callback("def on_train_begin(self, logs=None):\n    open('nothing/here.txt')"), BACK, 'nothing/here.txt'),
    "super_init_forgotten_in_callback": (callback("def __init__(self):\n    self.losses = []\ndef on_epoch_end(self, epoch, logs=None):\n    self.losses.append(logs['loss'] / self.params['samples'])"), BACK, "KeyError: 'samples'"),
    "ema_without_averages": ('CALLBACKS["cb"] = lambda: keras.callbacks.SwapEMAWeights()\n', BACK, 'set optimizer_options.use_ema=true'),
}  # fmt: skip
