"""The learned denoiser, its training, and priors as files."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from problems import make_problem
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from masf.arrays import Stream
from masf.atomic import FileFault
from masf.diffusion.denoisers.family import Family, FamilyFit
from masf.diffusion.denoisers.gaussian import DenseDenoiser
from masf.diffusion.denoisers.learned import MIXED, Climate, LearnedDenoiser, feature_count
from masf.diffusion.denoisers.networks import MLP, CircularConvNet, Weighing
from masf.diffusion.denoisers.prior import Prior
from masf.diffusion.denoisers.select import ensemble_denoiser
from masf.diffusion.denoisers.training import fit, loss, zero_loss
from masf.diffusion.linear_state import linear_state
from masf.diffusion.prior_settings import PriorSettings
from masf.diffusion.process import ForwardProcess
from masf.files.trained_prior import load, save
from masf.filters.base import Setup
from masf.filters.registry import filter_class
from masf.observations.settings import observation_settings
from masf.stages.train_prior import Worlds, train
from masf.systems.registry import make_system

CLIMATE = Climate(np.zeros(1), np.ones(1))


def stream(seed: int = 0) -> Stream:
    return Stream(seed, "test learned denoiser")


def tensor(x) -> torch.Tensor:
    return torch.as_tensor(np.asarray(x, dtype=np.float64))


# --- networks


def random_weights(network):
    """The network with no layer left at zero."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.double()


def test_convolutions_commute_with_translations_and_serve_any_ring():
    network = random_weights(CircularConvNet(3, 5, 2, 3))
    for d in (7, 12):
        x = tensor(np.random.default_rng(0).standard_normal((2, 3, d)))
        answer = network(x)
        assert answer.shape == (2, d)
        assert answer.abs().max() > 0.01
        torch.testing.assert_close(network(x.roll(4, -1)), answer.roll(4, -1))


def test_untrained_networks_answer_zero():
    x = torch.randn((4, 3, 6), generator=torch.Generator().manual_seed(0))
    for network in (CircularConvNet(3, 8, 2, 5), MLP(3, 6, 8, 2)):
        np.testing.assert_array_equal(network(x).detach(), 0)
    assert random_weights(MLP(3, 6, 8, 2))(x.double()).shape == (4, 6)


# --- the denoiser


@pytest.mark.parametrize("kind", ["mask", "dense"])
@pytest.mark.parametrize(
    "network",
    [lambda f: CircularConvNet(f, 4, 1, 3), lambda f: MLP(f, 6, 4, 1)],
    ids=["conv1d", "mlp"],
)
def test_a_network_of_zeros_is_the_gaussian_denoiser_exactly(kind, network):
    problem = make_problem(kind, 6)
    ensemble, x = tensor(problem.prior_draws(9, seed=1)), tensor(problem.prior_draws(5, seed=2))
    gaussian = ensemble_denoiser(problem.process, ensemble, "localized")
    learned = LearnedDenoiser(
        Family(gaussian, [gaussian]), network(feature_count(6, 2)).double(), CLIMATE, ensemble
    )
    for t in (0.01, 0.5, 1.0):
        found, expected = learned(x, t), gaussian(x, t)
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.residual(stream()), expected.residual(stream()))
        assert found.variance is None


def test_the_network_moves_the_answer_by_posterior_standard_deviations():
    class One(torch.nn.Module):
        def forward(self, features):
            return torch.ones_like(features[..., 0, :])

    problem = make_problem("mask", 6)
    ensemble, x = tensor(problem.prior_draws(9, seed=1)), tensor(problem.prior_draws(5, seed=2))
    gaussian = ensemble_denoiser(problem.process, ensemble, "localized")
    moved = (
        LearnedDenoiser(Family(gaussian), One(), CLIMATE, ensemble)(x, 0.5).mean
        - gaussian(x, 0.5).mean
    )
    np.testing.assert_allclose(
        moved, gaussian.posterior_variance(0.5).sqrt().expand(5, 6), rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["mask", "dense"])
def test_targets_have_unit_variance_for_gaussian_data_at_every_time(kind, bonferroni):
    problem, n, times = make_problem(kind, 6), 5000, [0.02, 0.3, 0.7, 1.0]
    gaussian = DenseDenoiser(problem.process, tensor(problem.mean), tensor(problem.covariance))
    ensemble = tensor(problem.prior_draws(50, seed=1))
    learned = LearnedDenoiser(
        Family(gaussian), MLP(feature_count(6, 1), 6, 4, 1).double(), CLIMATE, ensemble
    )
    features, targets = learned.denoising_pairs(
        tensor(problem.prior_draws(n, seed=2)), times, stream()
    )
    assert features.shape == (len(times) * n, feature_count(6, 1), 6)
    assert torch.all(torch.isfinite(features))
    targets = targets.reshape(len(times), n, 6)
    # Standard normal: a mean has standard error n^(-1/2), a mean square (2/n)^(1/2).
    errors = np.stack(
        [targets.mean(dim=1) * math.sqrt(n), (targets.square().mean(dim=1) - 1) * math.sqrt(n / 2)]
    )
    assert np.max(np.abs(errors)) < bonferroni(errors.size)
    # And they carry no trace of the Gaussian answer: what is left is for the network.
    departure = features[:, 1].reshape(len(times), n, 6)
    departure = (departure - departure.mean(dim=1, keepdim=True)) / departure.std(
        dim=1, keepdim=True
    )
    informative = (
        tensor(np.stack([problem.process.basis.diagonal(problem.process.A(t)) for t in times]))
        > 0.01
    )
    correlation = (departure * targets).mean(dim=1)[informative] * math.sqrt(n)
    assert correlation.abs().max() < bonferroni(correlation.numel())


def test_a_family_has_one_gaussian_denoiser_a_radius():
    problem = make_problem("mask", 8)
    ensemble, x = tensor(problem.prior_draws(5, seed=1)), tensor(problem.prior_draws(3, seed=2))
    system = make_system("lorenz96", {"dt": 0.01, "dimension": 8, "forcing": 8.0})
    family = FamilyFit(
        [linear_state(system, problem.observation).taper(r, ensemble) for r in (None, 0.4)]
    )(problem.process, ensemble)
    free, (narrow,) = family.gaussian, family.others
    torch.testing.assert_close(
        free(x, 0.5).mean, ensemble_denoiser(problem.process, ensemble, "localized")(x, 0.5).mean
    )
    # A taper that reaches no neighbour leaves the diagonal.
    torch.testing.assert_close(
        narrow(x, 0.5).mean, ensemble_denoiser(problem.process, ensemble, "diagonal")(x, 0.5).mean
    )


class Choice(torch.nn.Module):
    """A network that gives one of its answers the weight 1, and the rest, and its correction, 0."""

    def __init__(self, answers: int, chosen: int) -> None:
        super().__init__()
        self.answers, self.chosen = answers, chosen

    def forward(self, features):
        weights = torch.zeros((len(features), 1 + self.answers, features.shape[-1]))
        weights[:, 1 + self.chosen] = 1
        return weights.flatten(1).to(features)


def learned_with_mixtures(dimension=12, chosen=1, order=slice(None)):
    """A denoiser that answers as a mixture does, and that mixture."""
    problem = make_problem("mask", dimension)
    ensemble = tensor(problem.prior_draws(40, seed=1))[order]
    system = make_system("lorenz96", {"dt": 0.01, "dimension": dimension, "forcing": 8.0})
    settings = tiny_settings([3.0], bandwidths=[0.4, 0.8])
    state = linear_state(system, problem.observation)
    family = state.family(settings, ensemble)(problem.process, ensemble)
    network = Weighing(Choice(2, chosen), MIXED, 2)
    return (
        LearnedDenoiser(family, network, CLIMATE, ensemble, system), family, problem
    )  # fmt: skip


@pytest.mark.parametrize("chosen", [0, 1])
def test_a_network_may_answer_as_any_of_the_mixtures(chosen):
    learned, family, problem = learned_with_mixtures(chosen=chosen)
    x = tensor(problem.prior_draws(5, seed=2))
    for t in (0.3, 0.9):
        expected = family.mixtures[chosen](x, t).mean
        torch.testing.assert_close(learned(x, t).mean, expected)
        assert (expected - family.gaussian(x, t).mean).abs().max() > 0.01


def test_members_may_be_in_any_order():
    order = torch.as_tensor(np.random.default_rng(0).permutation(40))
    found = [learned_with_mixtures(order=rows)[0] for rows in (slice(None), order)]
    x = tensor(make_problem("mask", 12).prior_draws(5, seed=2))
    features = [denoiser.features(x, 0.5, denoiser.gaussian(x, 0.5).mean) for denoiser in found]
    torch.testing.assert_close(*features)


def test_a_mixture_of_a_long_state_without_a_taper_is_refused():
    system = make_system("lorenz96", {"dt": 0.01, "dimension": 6000, "forcing": 8.0})
    with pytest.raises(ValueError, match=r"bandwidths.* 6000 x 6000.*localization_radii"):
        linear_state(system, OBSERVED.build(6000, system.grid)).family(
            tiny_settings([None], bandwidths=[0.5]), torch.zeros(1)
        )


# --- training


@pytest.fixture(scope="module")
def bimodal():
    """Denoising pairs for two well separated modes, which no Gaussian denoiser knows: for training,
    and held out.
    """
    rng = np.random.default_rng(0)
    draws = rng.choice([-1.5, 1.5], size=(3000, 1)) + 0.3 * rng.standard_normal((3000, 2))
    draws = torch.as_tensor(draws, dtype=torch.float32)
    process = ForwardProcess(
        observation_settings({"operator": "identity", "noise": 1.0}).build(2, None).basis()
    )
    gaussian = ensemble_denoiser(process, draws[:500], "localized")
    learned = LearnedDenoiser(
        Family(gaussian), MLP(feature_count(2, 1), 2, 4, 1), CLIMATE, draws[:500]
    )
    times = [0.3, 0.6, 0.9]
    return learned.denoising_pairs(draws[500:2500], times, stream()), learned.denoising_pairs(
        draws[2500:], times, stream(1)
    )


def small_mlp() -> MLP:
    torch.manual_seed(1)
    return MLP(feature_count(2, 1), 2, 32, 2)


def test_training_learns_what_is_not_gaussian(bimodal, bonferroni):
    (features, targets), (held_features, held_targets) = bimodal
    network = small_mlp()
    assert loss(network, held_features, held_targets) == pytest.approx(
        zero_loss(held_targets), rel=1e-6
    )
    fit(network, features, targets, steps=300, batch=128, learning_rate=5e-3, stream=stream())
    assert not network.training
    with torch.no_grad():
        gains = (held_targets.square() - (held_targets - network(held_features)).square()).mean(
            dim=-1
        )
    assert zero_loss(held_targets) - loss(network, held_features, held_targets) == pytest.approx(
        float(gains.mean()), rel=1e-3
    )
    # Pairs on held-out states: the mean gain is positive beyond its standard error.
    assert gains.mean() > bonferroni(1) * gains.std() / math.sqrt(len(gains))


def test_training_repeats_itself(bimodal):
    (features, targets), _ = bimodal
    trained = []
    for _ in range(2):
        network = small_mlp()
        fit(network, features, targets, steps=15, batch=32, learning_rate=5e-3, stream=stream())
        trained.append(network.state_dict())
    torch.testing.assert_close(trained[0], trained[1], rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 20])
def test_any_number_of_training_steps_will_do(steps, bimodal):
    (features, targets), _ = bimodal
    network = small_mlp()
    fit(network, features, targets, steps=steps, batch=32, learning_rate=5e-3, stream=stream())
    assert torch.all(torch.isfinite(network.last.weight))
    assert network.last.weight.abs().max() > 0


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_loss_does_not_depend_on_the_chunk(chunk, bimodal):
    _, (features, targets) = bimodal
    network = random_weights(small_mlp())
    expected = float((network(features.double()) - targets).square().mean().detach())
    assert loss(network, features.double(), targets.double(), chunk) == pytest.approx(
        expected, rel=1e-9
    )


# --- priors

OBSERVED = observation_settings({"operator": "identity", "noise": 1.0})
SYSTEMS = {"lorenz96": {"dt": 0.01, "dimension": 8, "forcing": 8.0}, "lorenz63": {"dt": 0.01}}
RADII = {"lorenz96": [3.0, 1.0], "lorenz63": [None]}


def tiny_settings(radii: list[float | None], **others: object) -> PriorSettings:
    tiny = {
        "network": {"width": 6, "blocks": 1, "kernel": 3},
        "gaps": [3, 5],
        "localization_radii": radii,
        "worlds": 2,
        "cycles": 3,
        "spin_up_cycles": 1,
        "members": 12,
        "extra_members": 4,
        "sampler_steps": 2,
        "training_dimension": 10,
        "times_per_ensemble": 2,
        "states_per_time": 3,
        "steps": 15,
        "batch": 16,
    }
    return PriorSettings(**(tiny | others))


def trained(name: str, seed: int = 1) -> Prior:
    return train(name, SYSTEMS[name], OBSERVED, tiny_settings(RADII[name]), seed=seed, device="cpu")


@pytest.fixture(scope="module")
def priors(tmp_path_factory):
    """For each system a trained prior and its file."""
    folder = tmp_path_factory.mktemp("priors")
    priors = {name: (trained(name), folder / f"{name}.safetensors") for name in SYSTEMS}
    for prior, path in priors.values():
        save(prior, path)
    return priors


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_prior_comes_back_from_its_file_as_it_was(name, priors):
    prior, path = priors[name]
    again = load(path, make_system(name, SYSTEMS[name]), "cpu")
    torch.testing.assert_close(
        again.network.state_dict(), prior.network.state_dict(), rtol=0, atol=0
    )
    np.testing.assert_array_equal(again.climate.mean, prior.climate.mean)
    np.testing.assert_array_equal(again.climate.std, prior.climate.std)
    assert again.settings == prior.settings
    assert again.metadata == prior.metadata
    assert any(torch.any(v != 0) for v in again.network.last.parameters())
    assert not again.network.training


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_prior_with_mixtures_serves_ensembles_of_any_size(name, tmp_path):
    settings = tiny_settings(
        RADII[name], bandwidths=[0.3, 0.7], members=[5, 20], worlds=6, steps=40
    )
    prior = train(name, SYSTEMS[name], OBSERVED, settings, seed=1, device="cpu")
    save(prior, tmp_path / "prior.safetensors")
    system = make_system(name, SYSTEMS[name])
    again = load(tmp_path / "prior.safetensors", system, "cpu")
    assert again.settings.member_counts == [5, 20]
    x = torch.randn((3, system.dimension), generator=torch.Generator().manual_seed(0))
    state = linear_state(system, OBSERVED.build(system.dimension, system.grid))
    for members in (7, 60):
        ensemble = system.perturbations(members, x, stream())
        process = ForwardProcess.for_ensemble(state.basis, ensemble)
        family = state.family(again.settings, ensemble)(process, ensemble)
        learned = LearnedDenoiser(family, again.network, again.climate, ensemble, system)
        answer = learned(x, 0.5).mean
        assert torch.isfinite(answer).all()
        assert (answer - family.gaussian(x, 0.5).mean).abs().max() > 0


def test_worlds_of_a_gap_take_the_numbers_of_members_in_turn():
    settings = tiny_settings(RADII["lorenz96"], members=[5, 20], worlds=8)
    system = make_system("lorenz96", SYSTEMS["lorenz96"])
    observation = OBSERVED.build(system.dimension, system.grid)
    worlds = Worlds(system, observation, settings, stream(), "cpu", missing=0.0)
    members = [worlds._members(world) for world in range(8)]
    assert members == [5, 5, 20, 20, 5, 5, 20, 20]  # and gaps are 3, 5, 3, 5, ...
    seen: list[int] = []
    inner = worlds._denoiser
    worlds._denoiser = lambda ensemble, *others: (
        seen.append(len(ensemble)) or inner(ensemble, *others)
    )
    worlds.denoising_pairs(None)
    assert set(seen) == {5, 20}


@pytest.mark.parametrize("name", SYSTEMS)
def test_training_twice_gives_identical_weights_and_another_seed_others(name, priors):
    prior, _ = priors[name]
    torch.testing.assert_close(
        trained(name).network.state_dict(), prior.network.state_dict(), rtol=0, atol=0
    )
    assert torch.any(trained(name, seed=2).network.first.weight != prior.network.first.weight)


def test_the_truth_is_a_draw_from_what_ensembles_of_the_last_pass_stand_for(monkeypatch):
    """Of a linear model, where all is Gaussian: in units of their spread it departs from their mean
    as any member does, before the last part is taken in.
    """
    system = make_system("linear_gaussian", {"dimension": 10, "model_noise": 0.0})
    observation = observation_settings({"operator": "identity", "noise": 0.3})
    settings = tiny_settings(
        [None], worlds=24, cycles=6, spin_up_cycles=1, members=60, passes=[1, 3], passes_radius=None
    )
    seen = []
    pairs = Worlds._pairs

    def noted(self, denoiser, states, members):
        temperature = float(denoiser.gaussian.process.r[0]) / 0.3**2
        seen.append((temperature, (states[0] - denoiser.gaussian.mean) / denoiser.prior_std))
        return pairs(self, denoiser, states, members)

    monkeypatch.setattr(Worlds, "_pairs", noted)
    worlds = Worlds(
        system, observation.build(10, system.grid), settings, Stream(3, "test"), "cpu", 0.0
    )
    worlds.denoising_pairs(None)
    for passes in (1, 3):
        normal = torch.stack([z for temperature, z in seen if round(temperature) == passes])
        assert len(normal) >= 48
        # 480 numbers and more, correlated within a state.
        assert normal.square().mean() == pytest.approx(1, abs=0.15)
    one_pass, last_of_three = (
        [float(z.norm()) for t, z in seen if round(t) == passes] for passes in (1, 3)
    )
    assert one_pass != last_of_three


def test_a_prior_for_passes_is_refused_where_the_model_has_noise_of_its_own():
    settings = tiny_settings([None], passes=[1, 2])
    with pytest.raises(ValueError, match=r"passes = \[1, 2\]: this system's model has noise"):
        train("linear_gaussian", {"dimension": 10}, OBSERVED, settings, seed=1, device="cpu")


@pytest.mark.parametrize("name", SYSTEMS)
def test_climate_is_the_systems(name, priors):
    climate = priors[name][0].climate
    components = 1 if name == "lorenz96" else 3
    assert climate.mean.shape == climate.std.shape == (components,)
    # Two short trajectories only: within the range that single states of these attractors span.
    assert np.all(climate.std > 1)
    assert np.all(climate.std < 12)


def write(path, content: str, prior: Prior, original) -> None:
    """A file at ``path`` that is no prior, in one of several ways."""
    tensors = load_file(original)
    if content == "truncated":
        path.write_bytes(original.read_bytes()[:-100])
    elif content == "truncated header":
        path.write_bytes(original.read_bytes()[:50])
    elif content == "a changed byte":
        good = original.read_bytes()
        path.write_bytes(good[:-50] + bytes([good[-50] ^ 1]) + good[-49:])
    elif content == "empty":
        path.write_bytes(b"")
    elif content == "text":
        path.write_text("this is not a prior\n" * 10)
    elif content == "foreign tensors":
        save_file(tensors, path)
    elif content == "another format":
        save_file(tensors, path, metadata=prior.metadata | {"format": "masf-prior-0"})
    elif content == "settings of another version":
        settings = json.loads(prior.metadata["settings"]) | {"depth": 3}
        save(
            Prior(
                prior.network,
                prior.climate,
                prior.settings,
                prior.metadata | {"settings": json.dumps(settings)},
            ),
            path,
        )
    elif content == "no settings":
        metadata = {k: v for k, v in prior.metadata.items() if k != "settings"}
        save(Prior(prior.network, prior.climate, prior.settings, metadata), path)
    elif content == "a tensor is missing":
        network = copy.deepcopy(prior.network)
        del network.last
        save(Prior(network, prior.climate, prior.settings, prior.metadata), path)
    else:
        assert content == "missing"


@pytest.mark.parametrize(
    "content",
    [
        "missing",
        "truncated",
        "truncated header",
        "a changed byte",
        "empty",
        "text",
        "foreign tensors",
        "another format",
        "settings of another version",
        "no settings",
        "a tensor is missing",
    ],
)
def test_a_file_that_is_no_prior_is_named_with_its_fault(content, priors, tmp_path):
    prior, original = priors["lorenz96"]
    path = tmp_path / "broken.safetensors"
    write(path, content, prior, original)
    remedy = f"run stage train-prior {'first' if content == 'missing' else 'again'}"
    with pytest.raises(FileFault, match=rf"(?s)broken\.safetensors: .*{remedy}"):
        load(path, make_system("lorenz96", SYSTEMS["lorenz96"]), "cpu")


@pytest.mark.parametrize("system", ["lorenz63", "linear_gaussian"])
@pytest.mark.parametrize("kind", ["auto", "conv1d"])
def test_a_prior_of_another_system_is_refused(system, kind, priors, tmp_path):
    prior, _ = priors["lorenz96"]
    settings = prior.settings.model_copy(
        update={"network": prior.settings.network.model_copy(update={"kind": kind})}
    )
    path = tmp_path / "other.safetensors"
    save(
        Prior(
            prior.network,
            prior.climate,
            settings,
            prior.metadata | {"settings": settings.model_dump_json()},
        ),
        path,
    )
    parameters = SYSTEMS["lorenz63"] if system == "lorenz63" else {"dimension": 8}
    with pytest.raises(FileFault, match=r"other\.safetensors: was trained for another system"):
        load(path, make_system(system, parameters), "cpu")


@pytest.mark.parametrize(
    ("network", "observation"),
    [
        ({"kind": "conv1d"}, OBSERVED),
        (
            {"kind": "conv1d"},
            observation_settings({"operator": "stride", "stride": 2, "offset": 1, "noise": 1.0}),
        ),
        ({"kind": "conv1d"}, observation_settings({"operator": "identity", "noise": [1.0] * 12})),
        ({"kind": "mlp"}, OBSERVED),
    ],
    ids=["all observed", "every second observed", "one noise for each", "mlp"],
)
def test_a_prior_serves_the_ring_it_was_trained_for_even_if_trained_on_a_shorter_one(
    network, observation, tmp_path
):
    parameters = SYSTEMS["lorenz96"] | {"dimension": 12}
    settings = tiny_settings(
        [3.0], rounds=1, network={"width": 4, "blocks": 1, "kernel": 3} | network
    )
    prior = train("lorenz96", parameters, observation, settings, seed=1, device="cpu")
    save(prior, tmp_path / "prior.safetensors")
    assert (
        load(tmp_path / "prior.safetensors", make_system("lorenz96", parameters), "cpu").metadata
        == prior.metadata
    )


def test_metadata_say_where_a_prior_comes_from(priors):
    with safe_open(priors["lorenz96"][1], "pt") as f:
        text = json.dumps(f.metadata())
    for fact in ("lorenz96", "identity", "forcing", "masf-prior-3", "held_out_loss"):
        assert fact in text


# --- a prior in the filter


def masf_filter(priors, name: str = "masf", *, prior_of: str = "lorenz96", **parameters: object):
    system = make_system(prior_of, SYSTEMS[prior_of])
    cls = filter_class(name)
    mean = torch.zeros(system.dimension)
    setup = Setup(
        system,
        OBSERVED.build(system.dimension, None),
        mean,
        1.0,
        stream(),
        load(priors[prior_of][1], system, "cpu"),
    )
    return cls(cls.Parameters(steps=3, **parameters), setup)


def forecast_ensemble(system) -> torch.Tensor:
    x = system.typical_state(stream()) + np.random.default_rng(0).standard_normal(
        (20, system.dimension)
    )
    return torch.as_tensor(x, dtype=torch.float32)


@pytest.mark.parametrize("name", ["masf", "masf_fresh", "masf_guided"])
@pytest.mark.parametrize("prior_of", SYSTEMS)
def test_filters_run_with_a_prior_and_say_what_they_used(name, prior_of, priors):
    filter_ = masf_filter(priors, name, prior_of=prior_of, finetune_steps=4)
    ensemble = forecast_ensemble(filter_.system)
    analysis = filter_.analyse(ensemble, ensemble[0] + 1)
    assert analysis.shape == ensemble.shape
    assert torch.all(torch.isfinite(analysis))
    diagnostics = filter_.diagnostics()
    assert set(diagnostics) == {"loss_gaussian", "loss_prior", "loss_finetuned", "network_used"}
    losses = {k: v for k, v in diagnostics.items() if k.startswith("loss")}
    assert diagnostics["network_used"] == float(min(losses, key=losses.get) != "loss_gaussian")


def test_fine_tuning_leaves_the_prior_as_it_is(priors):
    filter_ = masf_filter(priors, finetune_steps=4)
    before = copy.deepcopy(filter_.fit.prior.network.state_dict())
    ensemble = forecast_ensemble(filter_.system)
    filter_.analyse(ensemble, ensemble[0])
    torch.testing.assert_close(filter_.fit.prior.network.state_dict(), before, rtol=0, atol=0)


def test_a_network_that_does_not_help_is_not_used(priors):
    # Fresh draws: coupled ones would not feel a constant error.
    filter_ = masf_filter(priors, "masf_fresh")
    with torch.no_grad():
        filter_.fit.prior.network.last.bias.fill_(100.0)
    ensemble = forecast_ensemble(filter_.system)
    analysis = filter_.analyse(ensemble, ensemble[0] + 1)
    assert filter_.diagnostics()["network_used"] == 0
    # Used, the network would put members 100 standard deviations off.
    assert (analysis - ensemble).abs().max() < 20


def test_the_network_of_a_prior_cannot_run_on_numpy(priors):
    system = make_system("lorenz96", SYSTEMS["lorenz96"])
    cls = filter_class("masf")
    assert cls.needs_torch(cls.Parameters())
    assert not cls.needs_torch(cls.Parameters(network=False))
    setup = Setup(
        system, OBSERVED.build(8, None), np.zeros(8), 1.0, stream(), priors["lorenz96"][1]
    )
    with pytest.raises(ValueError, match="torch"):
        cls(cls.Parameters(), setup)


def test_a_system_that_has_no_parameter_for_its_length_is_trained_as_it_is():
    """Shorter rings are for systems that can be made of any length."""
    settings = PriorSettings(gaps=[1], network={"kind": "conv1d"}, training_dimension=12)
    observation = observation_settings({"operator": "identity", "noise": 1.0})
    own = {"dt": 300.0, "depth": 10.0}
    assert settings.training_parameters(own, observation, True) == own
    ring = {"dt": 0.01, "dimension": 40}
    assert settings.training_parameters(ring, observation, True) == {"dt": 0.01, "dimension": 12}
