"""The mutants: mistakes that somebody could make here, and who must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One search and replace inside one symbol.

    `symbol` is a dotted name inside a module, `Store.open`, with the last part of the module's name before it where
    several modules have it: `garbage:collect`. `text` occurs once in its source. A test is the name of a file below
    tests/, of one of its folders where several have it (`artifacts/test_store.py`), and may name one test in it, which
    is enough to tell files of one name apart. `|` separates alternatives, of which a checkout has one: symbols and
    files had other names in earlier ones. `why` says what users would suffer.
    """

    name: str
    symbol: str
    text: str
    replacement: str
    tests: tuple[str, ...]
    why: str


MUTANTS = (
    # --- artifacts ---------------------------------------------------------------------------------------------------
    Mutant(
        name="digest-of-keys-as-they-come",
        symbol="canonical_json",
        text="sort_keys=True, ",
        replacement="",
        tests=("test_refs.py",),
        why="Equal contents get different digests, so nothing is found in the cache and releases are made twice.",
    ),
    Mutant(
        name="record-in-another-form",
        symbol="records:parse",
        text="if canonical != data:",
        replacement="if load_strictly(canonical) != load_strictly(data):",
        tests=("test_records.py",),
        why="A record that somebody wrote anew counts as the one that was written, and digests of files stop holding.",
    ),
    Mutant(
        name="name-that-climbs",
        symbol="check_model_name",
        text=' or ".." in name',
        replacement="",
        tests=("test_names.py",),
        why="A model's name can look like a path that leads out of the store.",
    ),
    Mutant(
        name="object-by-its-size",
        symbol="Store._check",
        text=" or digest_file(path) != entry.sha256",
        replacement="",
        tests=("artifacts/test_store.py",),
        why="An engine with a flipped bit is taken for sound and served.",
    ),
    Mutant(
        name="ledger-entry-out-of-place",
        symbol="ledger:read",
        text="if entry.number != number:",
        replacement="if entry.number > number:",
        tests=("test_ledger.py",),
        why="An entry copied over another one hides that a record of the store is lost.",
    ),
    Mutant(
        name="collector-ignores-leases",
        symbol="garbage:collect",
        text="not in used | holds",
        replacement="not in used",
        tests=("test_garbage.py",),
        why="Garbage collection removes what a run is working on, and the run fails.",
    ),
    Mutant(
        name="signature-without-the-manifest",
        symbol="_RecordedDigests.__init__",
        text="hashlib.sha256(manifest_bytes).hexdigest()",
        replacement="manifest.identity",
        tests=("artifacts/test_signing.py::test_of_other_contents", "test_signing.py::test_a_signature_holds"),
        why="The signature still holds for a manifest in which gates and figures were edited.",
    ),
    Mutant(
        name="ends-of-a-drop-not-swapped",
        symbol="gates:_judged",
        text="(value, high, low))",
        replacement="(value, low, high))",
        tests=("test_gates.py",),
        why="A loss of accuracy is judged by the wrong end of its interval, and a bad release is accepted.",
    ),
    Mutant(
        name="not-measured-does-not-reject",
        symbol="GateResult.rejects",
        text='self.status in ("failed", "not measured")',
        replacement='self.status == "failed"',
        tests=("test_gates.py", "test_night_outcomes.py"),
        why="A release passes a gate that was asked for and that nothing was measured for.",
    ),
    Mutant(
        name="held-against-the-oldest",
        symbol="regression:_judge",
        text="known[-k:]",
        replacement="known[:k]",
        tests=("test_regression.py::test_the_last_k_before_the_new_one_in_any_order",),
        why="A release is held against the first ones ever made: drift of the last months is not seen.",
    ),
    Mutant(
        name="every-force-is-recorded",
        symbol="promotion:promote",
        text="forced=manifest.rejected",
        replacement="forced=force",
        tests=("artifacts/test_promotion.py",),
        why="The history says of sound releases that they were forced, and nobody can tell which really were.",
    ),
    Mutant(
        name="a-reason-is-enough",
        symbol="promotion:promote",
        text="if manifest.rejected and not force:",
        replacement="if manifest.rejected and not why:",
        tests=("artifacts/test_promotion.py",),
        why="A remark given with `promote --why` puts a rejected release into production, though nobody forced it.",
    ),
    Mutant(
        name="copy-by-its-size",
        symbol="verified_chunks",
        text=" or digest.hexdigest() != entry.sha256",
        replacement="",
        tests=("test_archive.py::test_a_damaged_object_is_not_packed",),
        why="A damaged release is packed and pushed, and is damaged wherever it arrives.",
    ),
    # --- tasks -------------------------------------------------------------------------------------------------------
    Mutant(
        name="openclip-settings-unread",
        symbol="Document.strange",
        text="if value != defaults.get(key)",
        replacement="if key in defaults and value != defaults.get(key)",
        tests=("test_openclip.py",),
        why="A setting that nobody knows and that changes the model is passed over: wrong embeddings with exit 0.",
    ),
    Mutant(
        name="layer-scale-dropped",
        symbol="names:_in_block",
        text="scale=gamma if gamma in stored else None",
        replacement="scale=None",
        tests=("test_openclip.py",),
        why="Models with layer scale are exported without it.",
    ),
    Mutant(
        name="rotary-positions-unscaled",
        symbol="tables",
        text=' / grid * rotary["reference"]',
        replacement="",
        tests=("test_towers.py::test_towers_are_the_librarys",),
        why="EVA-02 at another patch size than it was first trained with looks at the wrong places.",
    ),
    Mutant(
        name="padding-seen-as-words",
        symbol="TextTower.forward",
        text='_blanked(ids) if self.part["blank_padding"] else ids',
        replacement="ids",
        tests=("test_towers.py::test_padding_by_the_end_token_is_padding",),
        why="Texts of CoCa and MobileCLIP2 embed differently with another tokenizer's padding, and nobody notices.",
    ),
    Mutant(
        name="batch-norm-without-its-mean",
        symbol="WeightReader._normed",
        text='norm["bias"] - norm["running_mean"] * factors',
        replacement='norm["bias"]',
        tests=("test_towers.py::test_towers_are_the_librarys",),
        why="MobileCLIP's patches are shifted, and every embedding with them.",
    ),
    Mutant(
        name="tokenizer-of-any-commit",
        symbol="pinned_elsewhere",
        text='[[source["repository"], source["commit"]]] if source else []',
        replacement="[]",
        tests=("test_elsewhere.py",),
        why="A tokenizer that its repository has changed since goes unnoticed: the old texts come out of the cache.",
    ),
    Mutant(
        name="cache-key-without-versions",
        symbol="step_key",
        text="{name: package_version(name) for name in packages}",
        replacement="list(packages)",
        tests=("test_steps.py::test_key_changes_with_a_package",),
        why="After an upgrade of TensorRT or ModelOpt a run still gives what the old version made.",
    ),
    Mutant(
        name="cache-key-without-image-size",
        symbol="Snapshot.cache_identity",
        text='{"image_size": self.image_size}',
        replacement="{}",
        tests=("test_image_size.py::test_sizes_share_no_keys",),
        why="SigLIP 2 NaFlex at another image size is scored and calibrated with the pictures of the first.",
    ),
    Mutant(
        name="padding-as-the-tokenizer-says",
        symbol="HuggingFaceFamily.tokenizer",
        text='padding_side="right", ',
        replacement="",
        tests=("test_published.py::test_texts_are_padded_on_the_right_whatever_the_tokenizer_says",),
        why="Texts of a checkpoint whose tokenizer pads on the left get other embeddings than in PyTorch.",
    ),
    Mutant(
        name="padding-compared-the-wrong-way",
        symbol="_check_padding",
        text="if padding > highest:",
        replacement="if highest > padding:",
        tests=("test_published.py::test_padding_above_the_end_token_is_refused_where_it_would_be_pooled",),
        why="A text encoder that pools at the highest id reads its padding, and every text embeds the same.",
    ),
    Mutant(
        name="overlap-by-name",
        symbol="check_unseen",
        text="sample.image_hash in calibrated",
        replacement="sample.id in calibrated",
        tests=("test_open.py",),
        why="Accuracy is measured on pictures that the model was calibrated on, and looks better than it is.",
    ),
    Mutant(
        name="first-rule-decides",
        symbol="Recipe.rule_for",
        text="effect = rule.cfg",
        replacement="return rule.cfg",
        tests=("test_recipe.py::test_the_last_matching_rule_decides",),
        why="Modules that a recipe leaves in FP16 are quantized, against what ModelOpt makes of the same recipe.",
    ),
    Mutant(
        name="histogram-forgets-its-largest",
        symbol="ActivationHistogram.add",
        text="torch.maximum(self._largest, piece.max())",
        replacement="piece.max()",
        tests=("test_activation_histogram.py::test_parts_and_their_order_do_not_matter",),
        why="Calibration by error takes the last batch's maximum for that of all, and large activations saturate.",
    ),
    Mutant(
        name="scale-never-above-the-least",
        symbol="scale_for",
        text="np.maximum(",
        replacement="np.minimum(",
        tests=("test_fp8.py",),
        why="Every FP8 scale is far too small, and all values saturate.",
    ),
    Mutant(
        name="every-block-has-the-first-weights",
        symbol="_repeat_weights",
        text='w.model_copy(update={"key": _FIRST.sub(str(layer), w.key)})',
        replacement="w",
        tests=("test_replicate.py::test_more_than_ten_layers_keep_their_numbers_apart",),
        why="All layers of the exported graph compute with the weights of the first.",
    ),
    Mutant(
        name="fp16-in-an-fp8-graph",
        symbol="_check_coverage",
        text="if found[0].precision != expected:",
        replacement='if found[0].precision == "fp8" != expected:',
        tests=("test_graph_audit.py::test_module_left_out", "test_graph_audit.py::test_attention_left_out"),
        why="A release is labelled FP8 while modules that the recipe quantizes run in FP16.",
    ),
    Mutant(
        name="ties-count-as-hits",
        symbol="top_k_hits",
        text=" | ((scores == reached) & (places < right))",
        replacement="",
        tests=("test_metrics.py::test_of_classes_that_are_alike_the_first_is_the_answer",),
        why="A broken model that gives one embedding for everything scores 100 %.",
    ),
    Mutant(
        name="batch-below-the-profile",
        symbol="check_inputs",
        text="not profile.min <= batch <= profile.max",
        replacement="batch > profile.max",
        tests=("test_torch_fp8.py::test_inputs_are_looked_at_before_native_code",),
        why="A batch smaller than the engine was built for reaches native code, which fails or reads too far.",
    ),
    Mutant(
        name="lock-of-one-user",
        symbol="device_turn:_open_as_we_may",
        text="os.O_RDONLY",
        replacement="os.O_RDWR",
        tests=("test_device_turn.py::test_a_file_of_another_user_is_taken",),
        why="Whoever benchmarks first keeps all other users of the machine from the GPU for good.",
    ),
    Mutant(
        name="unverifiable-passes",
        symbol="is_rejected",
        text='verdict in ("failed", "unverifiable")',
        replacement='verdict == "failed"',
        tests=("test_gate.py::test_verdicts",),
        why="The bench passes an FP8 engine of which nobody has seen that it computes in FP8.",
    ),
    # --- flows -------------------------------------------------------------------------------------------------------
    Mutant(
        name="fp16-depends-on-the-recipe",
        symbol="Wiring._graphs|_Run._graphs",
        text='self.recipe if precision == "fp8" else None',
        replacement="self.recipe",
        tests=(
            "test_wiring.py::test_changing_one_parameter_recomputes_what_depends_on_it|"
            "test_caching.py::test_changing_one_parameter_recomputes_what_depends_on_it",
        ),
        why="With every new recipe what does not depend on it is computed again.",
    ),
    Mutant(
        name="gates-do-not-decide",
        symbol="inputs:plan_content|inputs:plan",
        text='"step_minutes", "store"}',
        replacement='"step_minutes", "store", "gates"}',
        tests=("test_inputs.py::test_what_is_part_of_the_plan",),
        why="A night with stricter gates changes nothing: the old release counts as what they would give.",
    ),
    Mutant(
        name="undecided-is-promoted",
        symbol="_Night._promote",
        text='any(result.status != "passed" for result in release.gates)',
        replacement="release.rejected",
        tests=("test_night_outcomes.py::test_an_alias_moves_only_when_every_gate_passed",),
        why="The night puts a release into production whose loss of accuracy was not settled.",
    ),
    # --- deployments -------------------------------------------------------------------------------------------------
    Mutant(
        name="one-code-for-every-error",
        symbol="last_resort:_told",
        text="return error.exit_code",
        replacement="return ExitCode.FAILED",
        tests=("test_aliases.py::test_a_rejected_release_needs_force_and_a_reason",),
        why="A pipeline cannot tell a rejected release from a crash.",
    ),
    Mutant(
        name="pages-of-others-may-ask",
        symbol="OriginMiddleware.__call__",
        text='"*" in self._origins',
        replacement='"*" not in self._origins',
        tests=("test_embedded_api.py::test_a_command_uses_its_own_server_and_takes_it_along",),
        why="A page that is open in a browser listens to `up`, and runs code where nobody is asked for a password.",
    ),
    Mutant(
        name="password-for-everybody",
        symbol="own_server:password",
        text="0o077",
        replacement="0o002",
        tests=("test_own_server.py",),
        why="Other users of the machine read the password of `up`, and nobody notices.",
    ),
    Mutant(
        name="webhook-in-clear",
        symbol="webhook_url",
        text='else ("https",)',
        replacement='else ("https", "http")',
        tests=("test_automations.py",),
        why="The webhook's address, often a secret, and what it is told can be read on the way.",
    ),
    Mutant(
        name="paused-schedules-wake-up",
        symbol="merged",
        text="line.slug not in paused",
        replacement="line.slug in paused",
        tests=("test_definitions.py",),
        why="Deploying again starts the nights that somebody has paused, and stops the others.",
    ),
    Mutant(
        name="diff-before-and-after-swapped",
        symbol="show_comparison:_metrics",
        text="_number(row.before, ends), _number(row.after, ends)",
        replacement="_number(row.after, ends), _number(row.before, ends)",
        tests=("test_releases.py::test_diff_names_what_differs_and_nothing_else",),
        why="People read an old release's figures as the new one's, and promote or roll back the wrong way.",
    ),
    Mutant(
        name="list-counts-what-failed",
        symbol="show_releases:_gates",
        text='{counts[name]} {name}"',
        replacement='{len(counts)} {name}"',
        tests=("test_releases.py::test_the_list_for_people",),
        why="The list of releases tells wrong numbers of gates, and people promote by them.",
    ),
)
"""In the order of the folders that data flows through."""
