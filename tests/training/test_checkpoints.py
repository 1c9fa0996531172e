import jax
import jax.numpy as jnp
import numpy as np

from textfuse_jax.training import checkpoints, parallel


def state_on(devices: int):
    mesh = parallel.make_mesh(devices)
    tree = {"train": {"w": jnp.arange(6.0).reshape(2, 3), "empty": {}, "opt": (jnp.int32(3),)}, "best": {"w": jnp.ones(2)}}
    return parallel.replicate(tree, mesh)


def test_state_and_meta_come_back(tmp_path):
    state, meta = state_on(1), {"position": {"next": 5}, "progress": {"best": None, "score": 0.25}}
    checkpoints.save(tmp_path, 12, state, meta, keep=2)
    (path,) = checkpoints.all_steps(tmp_path)
    assert path.name == "step_000000012" and checkpoints.read_meta(path) == meta
    back = checkpoints.load(path, jax.tree.map(jnp.zeros_like, state))
    jax.tree.map(np.testing.assert_array_equal, back, state)
    assert jax.tree.structure(back) == jax.tree.structure(state)


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        checkpoints.save(tmp_path, step, state_on(1), {}, keep=2)
    assert [p.name for p in checkpoints.all_steps(tmp_path)] == ["step_000000003", "step_000000010"]


def test_half_written_folders_are_not_checkpoints(tmp_path):
    (tmp_path / "step_000000009").mkdir()
    (tmp_path / "step_000000011.orbax-checkpoint-tmp").mkdir()
    checkpoints.save(tmp_path, 8, state_on(1), {}, keep=1)
    assert [p.name for p in checkpoints.all_steps(tmp_path)] == ["step_000000008"]
    assert checkpoints.all_steps(tmp_path / "nothing") == []


def test_a_checkpoint_moves_between_device_counts(tmp_path):
    four, one = state_on(4), state_on(1)
    checkpoints.save(tmp_path, 1, four, {}, keep=1)
    back = checkpoints.load(checkpoints.all_steps(tmp_path)[0], one)
    assert back["train"]["w"].sharding.is_equivalent_to(one["train"]["w"].sharding, 2)
    np.testing.assert_array_equal(back["train"]["w"], four["train"]["w"])


def test_parameters_alone(tmp_path):
    params = {"encoder/a": jnp.arange(4.0), "head/b": jnp.ones((2, 2))}
    checkpoints.save_params(tmp_path / "params", params)
    back = checkpoints.load_params(tmp_path / "params")
    assert back.keys() == params.keys()
    np.testing.assert_array_equal(back["encoder/a"], params["encoder/a"])
