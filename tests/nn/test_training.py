"""fit, evaluate and predict: what they compute, what they leave behind."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from tests.nn.models import CLASSES, classifier, images

X, Y = images()


def probabilities(model, x):
    """Return the outputs layer by layer, each by itself."""
    return model.feature_maps(x)[-1]


def test_fit_learns_and_tells():
    model = classifier()
    history = model.fit(X, Y, batch_size=8, epochs=12, verbose=0, validation_data=(X, Y))
    assert history is model.history
    assert history.epoch == list(range(12))
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == 12 for values in history.history.values())
    assert history.history["loss"][-1] < history.history["loss"][0]
    loss, accuracy = model.evaluate(X, Y)
    assert [loss, accuracy] == [history.history["val_loss"][-1], history.history["val_accuracy"][-1]]
    p = probabilities(model, X)
    np.testing.assert_allclose(loss, -np.log(p[np.arange(len(Y)), Y]).mean(), rtol=1e-5)
    assert accuracy == (p.argmax(1) == Y).mean() > 0.6
    assert model.evaluate(X, Y, batch_size=3, return_dict=True) == {
        "loss": pytest.approx(loss, rel=1e-6),
        "accuracy": accuracy,
    }


def test_means_of_an_epoch_are_over_samples():
    # Nothing changes at a learning rate of 0, so the means over 8 + 8 + 4 samples are those of all.
    model = classifier(optimizer=nn.optimizers.SGD(0.0))
    model.layers[2].rate = 0.0
    got = model.fit(X, Y, batch_size=8, verbose=0).history
    loss, accuracy = model.evaluate(X, Y, batch_size=20)
    np.testing.assert_allclose([got["loss"][0], got["accuracy"][0]], [loss, accuracy], rtol=1e-6)


def test_training_has_the_same_bits_for_all_threads():
    results = []
    for threads in (1, 2, 2):
        with fc.threads(threads):
            model = classifier(seed=7)
            history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
            results.append([history.history["loss"], *(w.tobytes() for w in model.get_weights())])
    assert results[0] == results[1] == results[2]
    other = classifier(seed=8)
    other.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    assert other.get_weights()[0].tobytes() != results[0][1]


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["plain", "all"])
def test_training_of_wide_layers_has_the_same_bits_for_all_threads(layers):
    # Large enough that the threads share the work.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(96, 28, 28, 2)).astype("f4"), np.arange(96) % 10
    results = []
    for threads in (1, 2, 3):
        nn.set_random_seed(1)
        wide = [nn.Conv2D(32, 3, activation="relu"), nn.MaxPooling2D(2), nn.Dropout(0.2)]
        if layers == "all":
            wide += [
                nn.BatchNormalization(),
                nn.SeparableConv2D(32, 3, activation="swish", padding="same"),
                nn.AveragePooling2D(2),
                nn.Conv2DTranspose(24, 3, 2, activation="tanh"),
                nn.DepthwiseConv2D(3, 2, activation="gelu"),
                nn.UpSampling2D(2, interpolation="bilinear"),
            ]
        model = nn.Sequential([*wide, nn.Flatten(), nn.Dense(128, "relu"), nn.Dense(10, "softmax")])
        model.compile()
        with fc.threads(threads):
            history = model.fit(x, y, epochs=2, verbose=0, validation_data=(x, y)).history
            results.append([history, *(w.tobytes() for w in model.get_weights()), model.predict(x).tobytes()])
    assert results[0] == results[1] == results[2]


def test_inputs_of_other_dtypes_are_converted_by_batches():
    x = (np.abs(X) * 40).astype("u1")
    results = []
    for values in (x, x.astype("f4"), x.astype(">f8"), x.tolist(), np.asfortranarray(x)):
        model = classifier(seed=3)
        model.fit(values, Y.astype("u1"), verbose=0, shuffle=False)
        results.append(model.get_weights()[0].tobytes())
    assert len(set(results)) == 1


def test_validation_split_takes_the_last_samples():
    model = classifier()
    history = model.fit(X, Y, epochs=2, verbose=0, validation_split=0.25)
    assert history.history["val_loss"][-1] == model.evaluate(X[15:], Y[15:])[0]


def test_mean_squared_error_and_its_metric():
    nn.set_random_seed(0)
    model = nn.Sequential([nn.Dense(1, input_shape=(3,))])
    model.compile(nn.optimizers.SGD(0.1), "mse", ["mse", "accuracy"])
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = x @ [1.0, -2.0, 0.5] + 0.25
    model.fit(x, y, epochs=60, verbose=0)
    loss, mse, _ = model.evaluate(x, y)
    assert 0 < loss < 1e-4
    np.testing.assert_allclose([loss, mse], np.square(model.predict(x)[:, 0] - y).mean(), rtol=0.1)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], [1.0, -2.0, 0.5], atol=0.02)


def test_crossentropies_agree():
    one_hot = np.eye(CLASSES)[Y]
    assert classifier().evaluate(X, Y[:, None]) == classifier().evaluate(X, Y.tolist())
    values = []
    for loss, y in (("sparse_categorical_crossentropy", Y), ("categorical_crossentropy", one_hot)):
        model = classifier(loss=loss)
        values.append([model.fit(X, y, verbose=0).history, model.get_weights()[0]])
    assert values[0][0]["accuracy"] == values[1][0]["accuracy"]
    np.testing.assert_allclose(values[0][0]["loss"], values[1][0]["loss"], rtol=1e-6)
    np.testing.assert_allclose(values[0][1], values[1][1], atol=1e-6)


def test_logits_and_probabilities_give_the_same_training():
    weights = []
    for activation, from_logits in (("softmax", False), (None, True)):
        nn.set_random_seed(0)
        model = nn.Sequential([nn.Flatten(), nn.Dense(CLASSES, activation)])
        model.compile("sgd", nn.losses.SparseCategoricalCrossentropy(from_logits=from_logits))
        model.fit(X, Y, verbose=0)
        weights.append(model.get_weights()[0])
    np.testing.assert_array_equal(*weights)


def test_crossentropy_of_huge_logits_is_finite():
    model = nn.Sequential([nn.Dense(2, "softmax", input_shape=(1,))])
    model.set_weights([[[1.0, -1.0]], [0.0, 0.0]])
    model.compile()
    assert model.evaluate([[1e4], [1e4]], [0, 1]) == [1e4, 0.5]


def test_train_on_batch_is_a_step_of_fit():
    one, two = classifier(seed=1), classifier(seed=1)
    nn.set_random_seed(5)
    got = one.train_on_batch(X, Y)
    nn.set_random_seed(5)
    # Drawn by fit before the dropout.
    history = two.fit(X, Y, batch_size=len(X), shuffle=False, verbose=0).history
    assert got == [history["loss"][0], history["accuracy"][0]]
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_normalization_keeps_moving_statistics():
    nn.set_random_seed(0)
    model = nn.Sequential([nn.BatchNormalization(momentum=0.5, input_shape=(8, 8, 1)), nn.Flatten(), nn.Dense(3)])
    model.compile(nn.optimizers.SGD(0.0), nn.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, batch_size=20, verbose=0)
    _, _, mean, variance = model.layers[0].get_weights()
    np.testing.assert_allclose(mean, 0.5 * X.mean(), rtol=1e-4)
    np.testing.assert_allclose(variance, 0.5 + 0.5 * X.var(), rtol=1e-4)
    expected = (X - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(model.feature_maps(X)[0], expected, rtol=1e-4, atol=1e-5)


def test_dropout_drops_only_in_training():
    nn.set_random_seed(0)
    layer = nn.Dropout(0.25)
    x = np.ones((100, 50), "f4")
    np.testing.assert_array_equal(layer(x), x)
    y = layer(x, training=True)
    assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.03


def test_callbacks_see_epochs_and_may_stop():
    seen = []

    class Stop(nn.Callback):
        def on_train_begin(self, logs=None):
            seen.append("begin")

        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.1 / (epoch + 1)

        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, self.model.optimizer.learning_rate))
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            seen.append("end")

    model = classifier()
    history = model.fit(X, Y, epochs=5, verbose=0, callbacks=[Stop(), lambda epoch, logs: seen.append(sorted(logs))])
    both = ["accuracy", "loss"]
    assert seen == ["begin", (0, 0.1), both, (1, 0.05), both, "end"]
    assert history.epoch == [0, 1]


def replayed(seed, batches):
    """Return the weights after so many batches of an uninterrupted fit."""
    model = classifier(seed)
    x, y = images(200)
    taken = []

    def stop(parameters):
        step(parameters)
        taken.append(1)
        if len(taken) == batches:
            raise StopIteration

    step, model.optimizer.step = model.optimizer.step, stop
    with pytest.raises(StopIteration):
        model.fit(x, y, batch_size=8, epochs=100, verbose=0)
    return model.get_weights()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="sends a signal to a thread")
def test_interrupt_keeps_the_last_whole_batch():
    model = classifier(seed=4)
    x, y = images(200)
    begun, step, steps = threading.Event(), model.optimizer.step, []

    def counted(parameters):
        # In the middle of a step the signal has to wait.
        if len(steps) == 30:
            os.kill(os.getpid(), signal.SIGINT)
        step(parameters)
        steps.append(begun.set())

    model.optimizer.step = counted
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, epochs=100, verbose=0)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(steps) == 31
    assert model.history.epoch == [0]
    assert len(model.history.history["loss"]) == 1
    for a, b in zip(model.get_weights(), replayed(4, 31), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_that_is_not_finite_stops_with_the_layer():
    model = classifier(optimizer="sgd")
    weights = model.get_weights()
    weights[2][0, 0] = np.nan
    model.set_weights(weights)
    before = [w.tobytes() for w in model.get_weights()]
    text = (
        r'^fit: the loss is nan in epoch 1, batch 1; the first layer .* is layer "dense" \(Dense\); its weights are not'
    )
    with pytest.raises(fc.NonFiniteError, match=text):
        model.fit(X, Y, verbose=0)
    assert [w.tobytes() for w in model.get_weights()] == before
    assert model.history.history == {}
    x = X.copy()
    x[3, 4, 5] = np.inf
    with pytest.raises(fc.NonFiniteError, match="batch 1: the input x has numbers that are not finite"):
        classifier().fit(x, Y, verbose=0)
    model = nn.Sequential([nn.Dense(1, input_shape=(1,))])
    model.compile(loss="mse")
    with pytest.raises(fc.NonFiniteError, match="fit: the loss is nan in epoch 1, batch 1: y has numbers that are not"):
        model.fit([[1.0]], [[np.nan]], verbose=0)
    model.compile(nn.optimizers.SGD(1e30), "mse")
    with pytest.raises(ArithmeticError, match=r"fit: the loss is (inf|nan) in epoch \d+, batch \d+"):
        model.fit([[1.0]], [[3.0]], epochs=50, verbose=0)


def test_first_batch_that_fails_in_a_later_epoch_is_named():
    model = classifier(optimizer="sgd")

    def spoil(epoch, logs):
        if epoch == 1:
            weights = model.get_weights()
            weights[0][...] = np.inf
            model.set_weights(weights)

    with pytest.raises(fc.NonFiniteError, match=r'in epoch 3, batch 1; .* is layer "conv2d" \(Conv2D\)'):
        model.fit(X, Y, batch_size=8, epochs=5, verbose=0, callbacks=spoil)
    assert model.history.epoch == [0, 1]


def test_nothing_is_written_to_the_inputs():
    x, y = X.copy(), Y.copy()
    x.flags.writeable = y.flags.writeable = False
    model = classifier()
    model.fit(x, y, verbose=0, validation_split=0.1)
    model.evaluate(x, y)
    outputs = [model.predict(x), model(x), *model.feature_maps(x)]
    model.predict(x)
    np.testing.assert_array_equal(x, X)
    assert not any(np.may_share_memory(a, x) for a in outputs)
    assert not any(np.may_share_memory(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


@pytest.mark.parametrize("verbose", [1, 2, "auto"])
def test_progress_is_printed(verbose, capsys):
    classifier().fit(X, Y, epochs=2, verbose=verbose)
    printed = capsys.readouterr().out
    assert "Epoch 2/2" in printed
    assert "loss" in printed
    assert "accuracy" in printed
    classifier().predict(X, batch_size=8, verbose=verbose)
    assert "3" in capsys.readouterr().out.splitlines()[-1]


def test_progress_without_tqdm_is_lines(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    model = classifier()
    model.fit(X, Y, epochs=2, verbose=1)
    assert len(capsys.readouterr().out.splitlines()) == 2
    model.fit(X, Y, verbose=0)
    model.evaluate(X, Y)
    model.predict(X)
    assert capsys.readouterr().out == ""
    model.evaluate(X, Y, verbose=2)
    model.predict(X, batch_size=8, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["Evaluate: 1 batches", "Predict: 3 batches"]


def test_predict_of_no_samples():
    assert classifier().predict(X[:0]).shape == (0, CLASSES)
    assert math.isfinite(classifier().predict(X[:1]).sum())
