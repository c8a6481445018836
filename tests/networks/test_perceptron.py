import pytest
import torch

from sciencevae.errors import InputError
from sciencevae.networks import Modulated, Perceptron, Reshaped


@pytest.mark.parametrize("activation", ["silu", "gated"])
def test_trains(trains_everywhere, activation):
    inputs = torch.randn(3, 2, 2).double(), torch.randn(3, 2).double()

    def make():
        perceptron = Perceptron(4, [5, 3], 6, activation=activation, condition_features=2)
        return Reshaped(perceptron, (2, 2), (3, 2))

    trains_everywhere(make, inputs)


def test_a_gated_layer_is_a_linear_one_times_a_sigmoid():
    network, x = Perceptron(4, [5], 2, activation="gated"), torch.randn(3, 4)
    first, _, last = network.layers
    a, c = first.weight.chunk(2)
    b, d = first.bias.chunk(2)
    assert torch.allclose(network(x), last((x @ a.T + b) * (x @ c.T + d).sigmoid()), atol=1e-6)
    assert Perceptron(4, [], 2, activation="gated")(x).shape == (3, 2), "without a hidden layer it is linear"


def test_a_condition_scales_and_shifts_hidden_layers(trains_everywhere):
    x, told = torch.randn(3, 4), torch.randn(3, 2)
    trains_everywhere(lambda: Modulated(4, [5, 3], 6, 2, activation="tanh"), (x.double(), told.double()))
    network = Modulated(4, [5, 3], 6, 2, activation="tanh")
    first, second = network.layers
    s1, s2, t1, t2 = network.modulation(told).split([5, 3, 5, 3], 1)
    h = ((1 + s1) * first(x) + t1).tanh()
    h = ((1 + s2) * second(h) + t2).tanh()
    torch.testing.assert_close(network(x, told), network.last(h))


def test_reshaped_is_the_network_on_flat_data():
    network, x = Perceptron(6, [5], 4), torch.randn(3, 1, 2, 3)
    wrapped = Reshaped(network, (1, 2, 3), (2, 2))
    assert torch.equal(wrapped(x), network(x.reshape(3, 6)).reshape(3, 2, 2))
    assert wrapped.out_features == 2
    with pytest.raises(InputError, match="expected"):
        wrapped(torch.zeros(3, 6, 1))
    with pytest.raises(InputError, match=r"gives 4 numbers; the shape .* holds 6"):
        Reshaped(network, (6,), (2, 3))
    with pytest.raises(InputError, match="did you mean 'relu'"):
        Perceptron(2, [3], 4, activation="rely")
