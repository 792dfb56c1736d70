"""Test the tests: seed one bug at a time, and check that the named test fails.

    python tests/campaigns/mutants.py [--only NAME]

Each mutant is a copy of the installed package with one replacement. A mutant is caught if its test fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import reconciler
from checkout import CAMPAIGNS, SUPPORT, TESTS


class Mutant(NamedTuple):
    """One seeded bug: `old` stands once in `file`, and `test` (a file and a -k expression) must fail with `new`."""

    name: str
    file: str
    old: str
    new: str
    test: str
    keyword: str


MUTANTS = [
    Mutant("an engine of another package stands before no guard", "engines/registry.py", "found, GuardedPlugin(found, name, distribution)", "found, found", "test_adverse_engine.py", "ref-number or closing"),
    Mutant("a job that many observations leave out is missing", "engines/guarded.py", "left_out = Observation(Status.UNREADABLE, detail", "left_out = Observation(Status.MISSING, detail", "test_guarded.py", "beyond_the_wanted"),
    Mutant("a call in which the engine failed was not sent", "engines/guarded.py", "                return Result(AnswerClass.IN_DOUBT, message=message)", "                return Result(AnswerClass.NOT_SENT, message=message)", "test_guarded.py", "asked_again"),
    Mutant("a text of the state may be a number", "state/record_json.py", "        document[\"ref\"] = text(record.ref)", "        document[\"ref\"] = record.ref", "test_codec_closed.py", "not_written"),
    Mutant("an intent is not flushed", "state/journal.py", "            self._file.sync()\n        except OSError as fault:\n            failure", "            pass\n        except OSError as fault:\n            failure", "test_state.py", "one_failed_flush"),
    Mutant("the intent comes after the call", "apply/calls.py", "        context.session.intend(job.name, job.id, doubt, reason)\n", "", "test_power_loss.py", ""),
    Mutant("an apply that ends midway forgets the doubts from before", "usecases/apply.py", "        finally:\n            # The exit code must show each call in doubt, also if the journal can't be written any more.\n            self._doubtful = self.session.doubtful\n", "        finally:\n            pass\n        self._doubtful = self.session.doubtful\n", "test_model.py", "tells_of_a_doubt"),
    Mutant("redirects are followed", "engines/http/transport.py", "        return _reply(response, b\"\".join(pieces), fault)\n", "        if 300 <= response.status < 400 and response.headers.get(\"location\"):\n            return self.exchange(method, response.headers[\"location\"], headers, body)\n        return _reply(response, b\"\".join(pieces), fault)\n", "test_server_faults.py", "302 or 307"),
    Mutant("a run is sent again on 503", "engines/bytenite/answers.py", "(500, 502, 503, 504), AnswerClass.IN_DOUBT),", "(500, 502, 503, 504), AnswerClass.IN_DOUBT, repeat=True),", "test_server_faults.py", "503-run"),
    Mutant("a 500 counts as rejected", "engines/bytenite/answers.py", "reply.status in (400, 401, 403, 404, 407), AnswerClass.REJECTED", "reply.status in (400, 401, 403, 404, 407, 500), AnswerClass.REJECTED", "test_server_faults.py", "500-run or 500"),
    Mutant("an unreadable 200 counts as applied", "engines/bytenite/answers.py", "_is_2xx(reply) and _fields(reply).get(\"ok\") is True, AnswerClass.APPLIED", "_is_2xx(reply), AnswerClass.APPLIED", "test_server_faults.py", "html or wrong"),
    Mutant("a 200 without a word counts as applied", "engines/bytenite/answers.py", "_fields(reply).get(\"ok\") is True, AnswerClass.APPLIED", "_fields(reply).get(\"ok\", True) is True, AnswerClass.APPLIED", "test_server_faults.py", "no-ok or rpc"),
    Mutant("the last of two words counts", "engines/http/reply.py", "    if len(found) != len(pairs):", "    if False:", "test_server_faults.py", "two-oks"),
    Mutant("the run that was aborted is adopted", "rules/starts.py", "    if observed.stands_to(record.submitted_at) is not TimeOrder.LATER:\n", "    if False:\n", "test_drain.py", "outlasts or within"),
    Mutant("a run does not wait for the end of an aborted one", "rules/starts.py", "    return decision._replace(reason=f\"{decision.reason}; {why}\", awaits_end=True)", "    return decision", "test_drain.py", "outlasts or within"),
    Mutant("times are compared as words", "model/times.py", "    left, right = instant(first), instant(second)\n", "    left = right = None\n", "test_drain.py", "written_in_another_way"),
    Mutant("a page that does not begin where the one before ended is taken", "engines/bytenite/listing.py", "            if len(fresh) != len(page.jobs) - shared or (shared and page.jobs[0][0] != tail):", "            if False:", "test_bytenite_engine.py", "shrinks"),
    Mutant("the list is what its first pages say", "engines/bytenite/listing.py", "            if page.has_next is False and", "            if not page.has_next and", "test_bytenite_engine.py", "whatever_it_says"),
    Mutant("ok: false in a 200 counts as applied", "engines/bytenite/answers.py", "    return fields.get(\"ok\") is False or _is_error(fields.get(\"error\"))", "    return False", "test_server_faults.py", "not-ok or error-in-200"),
    Mutant("the folder is not flushed after the rename", "host/disk.py", "        raise\n    disk.sync_folder(path)\n", "        raise\n", "test_power_loss.py", ""),
    Mutant("the journal's header is not flushed before its rename", "state/journal.py", "        self._file.sync()\n        before_rename()\n", "        before_rename()\n", "test_power_loss.py", ""),
    Mutant("no baseline in the intent", "apply/calls.py", "before = None if observed.status is Status.NOT_OBSERVED else _baseline(verb, observed, subject.record)", "before = None", "test_commands.py", "answer_is_lost_but_which_shows"),
    Mutant("the time of submission is no evidence", "rules/lost_calls.py", "        case TimeOrder.LATER:\n            return Trace.DONE\n", "        case TimeOrder.LATER:\n            return Trace.UNKNOWN\n", "test_lost_calls.py", "lost_run"),
    Mutant("a repeat may hit a newer run", "rules/lost_calls.py", "    if now.is_of_other_run(before.submitted_at) or is_newer_run(before, now):", "    if False:", "test_lost_calls.py", "newer or abort"),
    Mutant("one look is enough", "apply/settle.py", "            case Trace.NOT_DONE:\n                pending.append(Pending(op, monotonic(), _is_guarded(engine, record)))", "            case Trace.NOT_DONE:\n                _conclude(session, name, record, observed, was_applied=False)", "test_settle.py", ""),
    Mutant("an abort that the service rejects settles no earlier one", "apply/calls.py", "            if not first_run and _shows_done(step.verb, result):\n", "            if False:\n", "test_settle.py", "rejects_another"),
    Mutant("an abort that is refused hides that an earlier one is in doubt", "apply/calls.py", "            return _refused_again(first.answer, result)\n", "            return _answered(result)\n", "test_settle.py", "the_way_out_is_named"),
    Mutant("the second look goes by the name", "apply/settle.py", "        name = names.get(one.op, \"\")\n", "        name = max(session.doubtful)\n", "test_settle.py", "second_look_settles"),
    Mutant("a read of an older run is evidence", "rules/lost_calls.py", "        case TimeOrder.LATER:\n            return Trace.DONE\n", "        case TimeOrder.LATER | TimeOrder.EARLIER:\n            return Trace.DONE\n", "test_lost_calls.py", "lost_run"),
    Mutant("what is added to the old run is evidence of a new one", "rules/lost_calls.py", "            return Trace.NOT_DONE if _looks_as_before(before, now, _MAY_BE_SAME) else Trace.UNKNOWN", "            return Trace.NOT_DONE if before.timestamps == now.timestamps else Trace.DONE", "test_drain.py", "second_entry"),
    Mutant("a call in doubt is spent", "rules/matching.py", "    return record.state is Desired.ABSENT and record.doubt is None\n", "    return record.state is Desired.ABSENT\n", "test_rounds.py", "went_missing"),
    Mutant("two calls without an op are one call", "engines/port.py", "asked.op != \"\" and asked.op == there.op", "asked.op == there.op", "test_port.py", "not_known"),
    Mutant("two runs without a digest are one run", "engines/port.py", "asked.config_digest != \"\" and ", "", "test_port.py", "not_known"),
    Mutant("a connection with anything left on it is used again", "engines/http/connection.py", "            self._is_clean\n            and ", "            True\n            and ", "test_bytenite_engine.py", "odd_answer"),
    Mutant("a killed push is undone by an older journal", "state/file_store.py", "            mark_held(disk, self._path, taken.state, digest, was_sound=taken.was_sound)\n", "", "test_state.py", "push_that_is_killed"),
    Mutant("an accept replays what the file holds", "state/loading.py", "            entries = lacking(entries, digest)\n", "            pass\n", "test_state.py", "accepted_edit"),
    Mutant("the second round deletes after a failure", "apply/execute.py", "        self._has_failed = has_failed\n", "        self._has_failed = False\n", "test_rounds.py", "second_round"),
    Mutant("--fail-fast ends the first round alone", "usecases/rounds.py", "(self._has_failed and self._options.fail_fast))\n", "False)\n", "test_rounds.py", "fail_fast_ends"),
    Mutant("a token is not consumed", "rules/records.py", "consumed = tokens | {job.run_token} if job.run_token is not None else tokens", "consumed = tokens", "test_commands.py", "run_token"),
    Mutant("a finished job without a record is run", "rules/table.py", "Status.COMPLETE: _row(\n        (Cell.ADOPT_ENDED,", "Status.COMPLETE: _row(\n        (Cell.RUN,", "test_decide.py", "each_cell"),
    Mutant("the reports on drift and on a plan disagree about a lost run", "rules/table.py", "(DriftCell.LOST, DriftCell.SAME, DriftCell.THERE)", "(DriftCell.SAME, DriftCell.SAME, DriftCell.THERE)", "test_table.py", "agree_on"),
    Mutant("an entry that holds a job has no way out", "rules/table.py", "        DriftCell.LOST.way_out,\n", "        \"\",\n", "test_table.py", "says_why"),
    Mutant("drift calls an aborted run that has yet to end one of someone else", "rules/drift.py", "    if is_ending(record, observed):\n", "    if False:\n", "test_drift.py", "yet_to_end"),
    Mutant("a job in doubt is decided on", "rules/decide.py", "if record is not None and record.doubt is not None:\n        return", "if False:\n        return", "test_decide.py", "in_doubt"),
    Mutant("apply does not observe", "apply/action.py", "        observed = self._context.engine.observe(action.id)\n        decision", "        from reconciler.model.jobs import NOT_ASKED\n        observed = NOT_ASKED\n        decision", "test_commands.py", "lost_state"),
    Mutant("a rerun starts although the run before may be active", "rules/starts.py", "if subject.terms.promises.reads and not observed.is_answer:", "if True:", "test_reruns.py", "engine_without_reads"),
    Mutant("a word about an end is refused where nobody can see it", "usecases/resolve.py", "    if seen.status not in (Status.FORGOTTEN, Status.TAKEN_AWAY) and not is_unseen:", "    if seen.status not in (Status.FORGOTTEN, Status.TAKEN_AWAY):", "test_ways_out.py", "end_that_a_person_states"),
    Mutant("a run is sent under a number that can't be read again", "rules/decide.py", "if Verb.RUN in decision.verbs and run_of(subject, Verb.RUN) > MAX_RUN:", "if False:", "test_reruns.py", "under_a_number"),
    Mutant("a state may count more runs than there can be", "state/json_types.py", "if (run := count_from_json(value)) > MAX_RUN:", "if (run := count_from_json(value)) < 0:", "test_format.py", "has_a_bound"),
    Mutant("apply does what the plan did not show", "apply/action.py", "if not is_within(fresh.calls, action.calls):", "if False:", "test_commands.py", "did_not_show or tampered"),
    Mutant("deletes go on after a failure", "apply/execute.py", "if step == _DELETE_STEP and self._has_failed:", "if False:", "test_commands.py", "one_failure"),
    Mutant("the lock is shared", "host/lock.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", "test_state.py", "lock"),
    Mutant("the digest is not checked", "state/codec.py", "    if not is_intact(content, digest):", "    if not digest:", "test_state.py", "flipped_bit_of_a_state or hand_edit"),
    Mutant("the target is not checked", "state/loading.py", "    if recorded != target:", "    if False:", "test_state.py", "another_target"),
    Mutant("a rolled-back state is taken", "state/marks.py", "        if serial < newest or", "        if False or", "test_state.py", "rolled_back"),
    Mutant("results are not replayed", "state/replay.py", "if entry[\"type\"] in (\"result\", \"record\"):", "if entry[\"type\"] == \"record\":", "test_state.py", "survives_a_crash"),
    Mutant("records are replayed twice after a checkpoint", "state/replay.py", "        if held:\n", "        if False:\n", "test_state.py", "between_state_and_journal"),
    Mutant("a cut journal is read as it is", "state/journal.py", "    if not content.endswith(b\"\\0\"):", "    if False:", "test_state.py", "truncation_of_a_journal"),
    Mutant("symbolic links are followed", "host/disk.py", "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK", "os.O_RDONLY | os.O_NONBLOCK", "test_state.py", "symbolic"),
    Mutant("a stop starts new actions", "apply/execute.py", "            if why := self._halt.why_nothing_starts():\n                outcome", "            if why := \"\":\n                outcome", "test_signals.py", "waits_for_its_turn"),
    Mutant("a stop lets go what waits to be sent", "apply/calls.py", "            held_back = held_back or (\"\" if self._may_be_sent() else INTERRUPTED)\n", "            held_back = \"\"\n", "test_signals.py", "waits_for_its_turn"),
    Mutant("plain http goes anywhere", "engines/http/endpoints.py", "if scheme == \"http\" and not insecure", "if False and not insecure", "test_manifest.py", "endpoint"),
    Mutant("another thread goes on after a failed flush", "state/failure.py", "        if error is not None:\n            raise error.changed() from error\n", "        pass\n", "test_mending.py", "no_other_thread"),
    Mutant("a state that can't be read is a crash", "host/disk.py", "        except OSError as fault:\n            raise _unusable(path, fault) from fault\n", "", "test_mending.py", "can_not_be_read"),
    Mutant("a credential in another encoding is shown", "host/secrecy.py", "        return REDACTED if any(map(self._shows_secret, _decoded(text))) else text\n", "        return text\n", "test_canary.py", "no_command"),
    Mutant("a bought token is shown", "engines/bytenite/auth.py", "        self._secrets.add(grant.token)\n", "", "test_canary.py", "no_command and key"),
    Mutant("a job's words are shown with what they hold", "engines/bytenite/engine.py", "        return {name: self._redacted(value) for name, value in job.items()}", "        return job", "test_canary.py", "no_command"),
    Mutant("a request's id is shown with what it holds", "engines/bytenite/answers.py", "_bounded(redact(request_id))", "_bounded(request_id)", "test_canary.py", "no_command"),
    Mutant("an answer's words are shown with what they hold", "engines/bytenite/answers.py", "        _bounded(redact(message)),", "        _bounded(message),", "test_canary.py", "journal"),
    Mutant("a list may name a job by a credential", "engines/bytenite/engine.py", " and self._tokens.redact(job_id) == job_id", "", "test_fuzz.py", "found_once"),
    Mutant("two halves of a command become one", "host/safe_text.py", "_without_commands(\"\".join(parts))", "\"\".join(map(_without_commands, parts))", "test_fuzz.py", "found_once"),
    Mutant("a call does not wait for the push of its intent", "state/lease.py", "            while self._published < ticket and", "            while False and", "test_git_state.py", "killed_anywhere"),
    Mutant("a push overwrites what others pushed", "state/backends/repository.py", "            lease = f\"--force-with-lease={self._ref}:{expected or ''}\"", "            lease = \"--force\"", "test_git_state.py", "who_loses"),
    Mutant("a push whose answer is lost is not looked for", "state/backends/repository.py", "                    found = self._tip()\n", "                    found = expected\n", "test_git_state.py", "answer_is_lost"),
    Mutant("a push that nobody knows of counts as arrived", "state/backends/repository.py", "                    found = self._tip()\n                except Unreachable as fault:\n", "                    found = self._tip()\n                except Unreachable as fault:\n                    return\n", "test_git_state.py", "nobody_can_tell"),
    Mutant("another machine at work is not waited for", "state/lease.py", "        if left_s <= 0:", "        if True:", "test_git_state.py", "at_work or taken"),
    Mutant("a call may follow its push as late as it likes", "state/lease.py", "                if self._may_send():", "                if True:", "test_git_state.py", "stalls"),
    Mutant("someone else's change of the state is not noticed", "state/publisher.py", "        if not grown or not (ours or theirs == before):", "        if False:", "test_git_state.py", "who_loses"),
    Mutant("a rewritten branch is taken", "state/leased_store.py", "        if not known or (snapshot is not None", "        if True or (snapshot is not None", "test_git_remotes.py", "rewritten"),
    Mutant("an intent that was never published is in doubt", "state/lease.py", "        return in_flight if self._failure.error is None else self._in_flight_there", "        return in_flight", "test_lease.py", "never_published"),
    Mutant("a push that takes too long counts as fresh", "state/lease.py", "        for _ in range(2):\n            if self._publisher.stopped():\n                return False\n", "        for _ in range(200):\n            if self._publisher.stopped() or _ > 2:\n                return True\n", "test_lease.py", "took_too_long"),
    Mutant("calls in flight can't be read while they change", "state/records.py", "        return [call.intent for call in tuple(self._calls.values())]", "        return [call.intent for call in self._calls.values()]", "test_lease.py", "other_threads"),
    Mutant("what could not be pushed counts as seen", "state/lease.py", "        self._pending = state, digest\n", "        self._pending = state, digest\n        self.keep(state, digest)\n", "test_git_state.py", "does_not_count"),
    Mutant("the lock stays on the branch", "state/backends/git.py", "                if holder is not None or self.read(lock) is not None:", "                if holder is not None:", "test_git_state.py", "another_machine"),
    Mutant("each intent is pushed alone", "state/lease.py", "        return min(self._unfinished, self._publisher.pace.intents_ahead)", "        return 1", "test_git_state.py", "two_hundred"),
    Mutant("a claim is not renewed while nothing is sent", "state/lease.py", "        if self._publisher.is_open_there and (", "        if False and (", "test_git_state.py", "keeps_its_claim"),
    Mutant("credentials in the URL of a remote are taken", "state/backends/git_url.py", "    if has_password or parts.query", "    if parts.query", "test_git_remotes.py", "credentials_in_the_url"),
    Mutant("the user's hooks run on our pushes", "state/backends/repository.py", "    \"core.hooksPath\": os.devnull,\n", "", "test_git_remotes.py", "hooks_of"),
    Mutant("an older state is pushed over a newer one", "state/successors.py", "    if state.serial <= recorded.serial:", "    if False:", "test_git_remotes.py", "moves_from"),
    Mutant("another state's commit ends the command", "state/publisher.py", "        if not grown or not (ours or theirs == before):", "        if True:", "test_git_state.py", "two_states"),
    Mutant("a push that failed is not sent again", "state/publisher.py", "        for pause_s in (*TRY_AGAIN_AFTER_S, None):", "        for pause_s in (None,):", "test_git_state.py", "never_left"),
    Mutant("protection is not looked at", "rules/decide.py", "if decision.kind in _PROTECTED and is_protected(job, record):", "if False:", "test_model.py", ""),
    Mutant("protection ends with its line in the manifest", "rules/records.py", "    return record is not None and record.protect\n", "    return False\n", "test_model.py", ""),
    Mutant("a state file that was replaced is written over", "state/identity.py", "            if stamp == self._stamp:\n                return \"\"\n", "            return \"\"\n", "test_displaced.py", "not_written_over"),
    Mutant("a lock file that is gone is not missed", "state/identity.py", "        if not self._is_locked():", "        if False:", "test_displaced.py", "without_its_lock and lock"),
    Mutant("a journal that is gone is not missed", "state/identity.py", "        if journal is not None and not journal.is_in_place:\n            return", "        if False:\n            return", "test_displaced.py", "without_its_lock and journal"),
    Mutant("another's lock file is removed", "host/lock.py", "            if lock.is_held():\n", "            if True:\n", "test_displaced.py", "left_alone"),
    Mutant("the folder is looked up by its name each time", "host/disk.py", "        return (name, held[-1]) if held else (path, None)", "        return path, None", "test_displaced.py", "renamed"),
    Mutant("what was kept is not looked for", "state/kept.py", "        found = self.found(lineage)\n", "        found: list[KeptJournal] = []\n", "test_displaced.py", "second_apply"),
    Mutant("pulled lines of the history are lost", "state/history.py", "        if disk.stamp(path) != stamp:", "        if False:", "test_displaced.py", "history_between"),
    Mutant("a signal at the question only sets the stop", "cli/interrupts.py", "        if self._is_asking:\n", "        if False:\n", "test_signals.py", "at_the_question"),
    Mutant("the end of the terminal kills an apply", "cli/interrupts.py", "    signal.SIGHUP: ExitCode.TERMINATED,\n", "", "test_signals.py", "goes_away_in_the_midst"),
    Mutant("nohup is overridden", "cli/interrupts.py", "if signal.getsignal(number) is not signal.SIG_IGN]", "if True]", "test_signals.py", "nohup"),
    Mutant("a paused machine's push passes for fresh", "host/clocks.py", "        return max(self.boot_s() - then.boot_s, self.wall_s() - then.wall_s)", "        return self.boot_s() - then.boot_s", "test_suspended.py", "paused"),
    Mutant("a suspended machine's push passes for fresh", "host/clocks.py", "        return max(self.boot_s() - then.boot_s, self.wall_s() - then.wall_s)", "        return 0.0", "test_suspended.py", "suspended"),
    Mutant("suspension is not counted", "host/clocks.py", "getattr(time, \"CLOCK_BOOTTIME\", time.CLOCK_MONOTONIC)", "time.CLOCK_PROCESS_CPUTIME_ID", "test_suspended.py", "boot_clock"),
    Mutant("one thread that can't be had ends it", "host/threads.py", "            except RuntimeError:\n                self._size = len(self._threads)\n", "            except NotImplementedError:\n                pass\n", "test_exhausted.py", "pool"),
    Mutant("as many connections as were asked for", "engines/bytenite/plugin.py", "parallelism=affordable_connections(surroundings.parallelism, files_each)", "parallelism=surroundings.parallelism", "test_exhausted.py", "few_open_files or embedded"),
    Mutant("a state in the place of a folder is not seen", "state/backends/git.py", "        if commit is not None and (file := repository.file_above(commit, path)):", "        if commit is not None and (file := \"\"):", "test_clashing_paths.py", "either_order"),
    Mutant("a file that comes later is replaced by a folder", "state/backends/git.py", "        if commit is not None and (file := repository.file_above(commit, path)):", "        if commit is not None and (file := \"\"):", "test_clashing_paths.py", "is_not_replaced"),
    Mutant("a publish that arrived is published again", "state/publisher.py", "        return ours[0] if ours else None\n", "        return None\n", "test_directory_home.py", "answer_is_lost"),
    Mutant("a command takes its own publish for another's", "state/publisher.py", "                    self._unsettled.append(write)\n", "                    pass\n", "test_directory_home.py", "own_publish"),
    Mutant("a place without a fence is taken", "state/leased_store.py", "                remote.probe()\n", "                pass\n", "test_directory_home.py", "without_a_fence"),
    Mutant("a lease is renewed where each write stays for ever", "state/lease.py", "(self._unfinished or self._publisher.pace.beats_while_idle)", "True", "test_lease.py", "beats_while_idle"),
    Mutant("two states share a history", "state/file_store.py", "        refuse_shared_history(self._path, self._disk.read)\n", "", "test_clashing_paths.py", "one_history"),
    Mutant("half a restart leaves its token to be spent", "rules/records.py", "            if job.state is Desired.RUNNING:\n                # Of a restart", "            if False:\n                # Of a restart", "test_commands.py", "half_way_through"),
    Mutant("each call asks for a token that is not to be had", "engines/bytenite/auth.py", "                self._refusal_ends_s = self._clock() + _REFUSAL_HOLDS_S\n", "", "test_bytenite_auth.py", "down_one"),
    Mutant("a token that was sent to a proxy", "engines/http/transport.py", "        manager = super().proxy_manager_for(proxy, **options, **self._tls)\n", "        manager = super().proxy_manager_for(proxy, **options, **self._tls)\n        manager.proxy_headers[\"Authorization\"] = \"canary-token\"\n", "test_network.py", "sees_no_token"),
    Mutant("the deadline of an exchange is not kept", "engines/http/exchange.py", "                            socket.socket.shutdown(exchange.sock, socket.SHUT_RDWR)\n", "                            pass\n", "test_network.py", "does_not_end"),
    Mutant("a CONNECT counts as the request", "engines/http/connection.py", "        if self._gathered is None:  # bytes for the proxy, before the request\n", "        if self._gathered is None:  # bytes for the proxy, before the request\n            ongoing.exchange.is_sent = True\n", "test_network.py", "before_the_request"),
    Mutant("what a proxy got of a request does not count as sent", "engines/http/exchange.py", "            exchange.is_sent = True\n", "            exchange.is_sent = False\n", "test_network.py", "counts_as_sent"),
    Mutant("what lies decrypted within TLS is not looked at", "engines/http/connection.py", "not self.sock.pending()", "True", "test_network.py", "longer_than_a_buffer"),
    Mutant("what lies in the reader's buffer is not looked at", "engines/http/connection.py", "has_body and self.raw.tell() == self.tell()", "has_body", "test_network.py", "stray"),
    Mutant("loopback goes through a proxy", "engines/http/network.py", "    if is_loopback(url):\n        return None\n", "", "test_network.py", "which_proxy"),
    Mutant("a credential in base64 is shown", "host/secrecy.py", "        return any(form in packed for form in self._encoded)\n", "        return False\n", "test_canary.py", "no_command"),
    Mutant("a credential in JSON inside JSON is shown", "host/secrecy.py", "_DEEPEST = 6\n", "_DEEPEST = 1\n", "test_canary.py", "no_command"),
    Mutant("git has no deadline", "host/git.py", "            code = child.wait(COMMAND_WITHIN_S)", "            code = child.wait()", "test_git.py", "hangs"),
    Mutant("what git started outlives the deadline", "host/git.py", "                    os.killpg(child.pid, signal.SIGKILL)", "                    child.kill()", "test_git.py", "hangs"),
    Mutant("git gets the service's credentials", "host/git.py", "own = without_credentials(env)", "own = env", "test_canary.py", "no_child_program"),
    Mutant("a proxy's password is shown", "engines/bytenite/engine.py", "            self._tokens.withhold(secret)\n", "            pass\n", "test_canary.py", "credentials_of_a_proxy"),
    Mutant("the path that sorts first decides where state lives", "state/homes.py", "    if len(paths) > 1:\n", "    if False:\n", "test_homes.py", "sorts_first"),
    Mutant("an empty state beside another is taken", "state/homes.py", "        if not self._home.named_by:\n            self._refuse_beside_another(target)\n", "", "test_homes.py", "same_target or applied_as_a_folder"),
    Mutant("a state that is gone is a first run", "state/homes.py", "        if loss and self._home.named_by != \"--state\":\n", "        if False:\n", "test_homes.py", "is_gone"),
    Mutant("a state's variable counts as the command's word", "cli/options.py", "    state_from = variable_of(ctx, parameters[\"state_url\"]) or \"--state\"\n", "    state_from = \"--state\"\n", "test_homes.py", "until_the_command_names_it"),
    Mutant("a declared state leads out of the repository", "state/homes.py", "    if not is_within(real, root or folder) or path.endswith(\"/\") or real == (root or folder):\n", "    if False:\n", "test_homes.py", "can_not_be_is_refused"),
    Mutant("a head is guessed between the marks of a conflict", "manifest/salvage.py", "            if in_conflict or name in blocks or not inner:\n", "            if not inner:\n", "test_homes.py", "is_not_guessed"),
    Mutant("an ending in capitals is passed over", "manifest/files.py", "    return name.lower().endswith(_ENDINGS)\n", "    return name.endswith(_ENDINGS)\n", "test_sources.py", "capitals"),
    Mutant("a link out of the repository is followed", "manifest/files.py", "            if is_within(os.path.realpath(path, strict=True), self._root):\n", "            if os.path.realpath(path, strict=True):\n", "test_sources.py", "leads_out"),
    Mutant("what looks like a manifest is passed over", "manifest/files.py", "            elif stat.S_ISREG(mode) and _passes_for_manifest(path, name, there):\n", "            elif False:\n", "test_sources.py", "looks_like or before_prune"),
    Mutant("a glob wins over the name that it is", "model/globs.py", "    exact = frozenset(glob for glob in globs if glob in names)\n", "    exact = frozenset[str]()\n", "test_commands.py", "glob_too"),
    Mutant("1 and true are one value", "model/json_values.py", "    return type(a) is type(b) and bool(a == b)\n", "    return bool(a == b)\n", "test_json_values.py", "three_values"),
    Mutant("a record of 1 passes for one of true", "model/jobs.py", "isinstance(other, Record) and tuple.__eq__(self, other) and same_json(self.config, other.config)", "isinstance(other, Record) and tuple.__eq__(self, other)", "test_configs_kept.py", "only_python_takes"),
    Mutant("jobs of 1 and of true share a config", "manifest/configs.py", "    return (tuple(own), values, types) if", "    return (tuple(own), values) if", "test_nested_files.py", "three_configs"),
    Mutant("two values have one path", "model/config_paths.py", "    if re.fullmatch(_PLAIN, step):\n", "    if True:\n", "test_config_paths.py", "two_paths or one_text"),
    Mutant("ignore covers half a segment", "model/config_paths.py", "    return inner[: len(outer)] == outer\n", "    return path_text(inner).startswith(path_text(outer))\n", "test_config_paths.py", "covers"),
    Mutant("a change of a key that looks private is not seen", "rules/configs.py", "ignore_private_variables=False", "ignore_private_variables=True", "test_configs.py", "looks_private"),
    Mutant("the items that one list has more are not told", "rules/configs.py", "[pair[side] for pair in pairs] + [0] * (len(of) - len(pairs))", "[pair[side] for pair in pairs]", "test_configs.py", "by_their_number"),
    Mutant("defaults are merged at the top alone", "manifest/configs.py", "            made[key] = merged(below, value)\n", "            pass\n", "test_engine_schemas.py", "merged_key_by_key"),
    Mutant("a bad default that every job overrides is let through", "manifest/configs.py", "        if not self.defaults or validator.is_valid(self.defaults):\n", "        if True:\n", "test_engine_schemas.py", "refused_at_its_own_line"),
    Mutant("a job without a config needs nothing", "manifest/configs.py", "needs_nothing = not configs.defaults and configs.schemas.config_validator.is_valid({})", "needs_nothing = not configs.defaults", "test_engine_schemas.py", "no_file_says"),
    Mutant("a number that JSON does not have is read", "manifest/scalars.py", "        if text in _NO_NUMBERS:\n", "        if False:\n", "test_strict_yaml.py", "refused_and_where"),
    Mutant("an engine's job fault is not asked for", "manifest/faults.py", "        if fault := engine.job_fault(jobs[name]):\n", "        if fault := \"\":\n", "test_engine_schemas.py", "cannot_have"),
    Mutant("a schema is fetched from the network", "manifest/schema.py", "offline=True", "offline=False", "test_schema_check.py", "no_schema_is_fetched"),
    Mutant("a misspelt field is missing too", "manifest/schema.py", " and not is_misspelt(name, value, error.schema, suggestion)", "", "test_manifest.py", "misspelt_is_one"),
    Mutant("a refusal without words of jsonschema is passed over", "manifest/schema.py", "        if not is_explained:\n", "        if False:\n", "test_schema_check.py", "no_words"),
    Mutant("half of a surrogate pair ends a command", "manifest/schema.py", "        except UnicodeEncodeError:\n            return False\n", "        except ZeroDivisionError:\n            return False\n", "test_schema_check.py", "surrogate"),
    Mutant("a name that can be no id is taken for one", "manifest/faults.py", "        if not is_id(name) and is_name(name):\n", "        if False:\n", "test_manifest.py", ""),
    Mutant("a float is rounded in silence", "manifest/scalars.py", "        if Decimal(text, Context(traps=[])) != Decimal(repr(value)):\n", "        if Decimal(text, Context(traps=[])).is_nan():\n", "test_strict_yaml.py", "refused_and_where"),
    Mutant("a journal that was published before the first call names no call", "state/replay.py", "    intents = [e for e in entries if e[\"type\"] == \"intent\"] + history.announced_in(entries)\n", "    intents = [e for e in entries if e[\"type\"] == \"intent\"]\n", "test_push.py", "killed_runner_announced"),
    Mutant("an announcement is never over", "state/session.py", "                journal.append(encode_entry({\"type\": \"announced\", \"intents\": []}))", "                pass", "test_push.py", "announcement_is_over"),
    Mutant("calls are sent before they are announced", "usecases/rounds.py", "        with self._session.announcing(calls):\n            self._announce(len(calls))\n", "        pass\n", "test_push.py", "announced_on_the_branch or takes_no_push"),
    Mutant("an older commit is applied", "state/backends/checkout.py", "        if self._manifest_known is not None:\n            there", "        if False:\n            there", "test_push.py", "older_commit"),
    Mutant("a state that others changed is overwritten", "state/backends/checkout.py", "        if changed:\n            raise Elsewhere(\n                f\"the state", "        if False:\n            raise Elsewhere(\n                f\"the state", "test_push.py", "others_changed or older_state"),
    Mutant("a state that is left out of the checkout is taken for none", "state/backends/checkout.py", "            if tag in \"Ss\" or tag.islower():", "            if False:", "test_push.py", "sparse"),
    Mutant("git is told of another repository by the environment", "host/git.py", 'r"GIT_(DIR|WORK_TREE', 'r"GIT_(NONE|WORK_TREE', "test_machines.py", "git_dir"),
    Mutant("a wait counts for no guard", "rules/guards.py", "        planned, before = plan.count_due(kind), done.get(kind, 0)", "        planned, before = plan.count_of(kind), done.get(kind, 0)", "test_order.py", "counts_as"),
    Mutant("an apply that only waits is refused", "apply/outcomes.py", "{ActionKind.WAIT: Outcome.WAITING, ", "{ActionKind.WAIT: Outcome.FAILED, ", "test_order.py", "only_waits"),
    Mutant("a saved plan does not run what waited", "usecases/rounds.py", "            if action.kind is ActionKind.WAIT or fresh.kind is ActionKind.WAIT:", "            if False:", "test_order.py", "no_longer_waits"),
    Mutant("a config that has run runs again", "rules/reruns.py", "    return counts(job, record, same) and not has_run(job, record, same)", "    return counts(job, record, same)", "test_reruns.py", "revert"),
    Mutant("a lost answer consumes no config", "rules/records.py", "began, doubt.run, doubt.config if doubt.verb is Verb.RUN else None)", "began, doubt.run)", "test_reruns.py", "in_doubt"),
    Mutant("a config that was only recorded counts as one that has run", "rules/decisions.py", "    is_run = verb is Verb.RUN and as_run", "    is_run = verb is Verb.RUN", "test_reruns.py", "only_recorded"),
    Mutant("a run under another policy consumes no config", "rules/starts.py", "run=run_of(subject, Verb.RUN), ran=job.config)", "run=run_of(subject, Verb.RUN), ran=job.config if job.on_config_change is OnConfigChange.RERUN else None)", "test_reruns.py", "every_policy or another_policy"),
    Mutant("values that ran before `rerunOn` named them run again", "rules/reruns.py", "    return any(_same_parts(wanted, ran, job.rerun_on, same) for wanted, ran in _pairs(job, record))", "    return False", "test_reruns.py", "named_them"),
    Mutant("a path may lead into a number", "manifest/configs.py", "            if not may_be(schema, list if isinstance(step, int) else dict, schemas.whole):", "            if False:", "test_engine_schemas.py", "ignore_takes"),
    Mutant("rerunOn of a job without rerun is accepted", "manifest/faults.py", "            if policy in set(OnConfigChange) - {OnConfigChange.RERUN}:", "            if False:", "test_reruns.py", "without_rerun"),
    Mutant("the merge of two records forgets configs that have run", "state/merging.py", "        ran_configs=record.ran_configs | other.ran_configs | configs,\n", "", "test_displaced.py", "configs_of_both"),
    Mutant("a run that is taken over consumes a config that it did not have", "rules/reruns.py", "    if observed.config is None or agrees(job.config, observed.config, same):", "    if True:", "test_reruns.py", "taken_over"),
    Mutant("a rerun aborts the active run", "rules/table.py", "Cell.RESTART, Cell.WAIT, Cell.RESTART_OR_ADOPT", "Cell.RESTART, Cell.RESTART, Cell.RESTART_OR_ADOPT", "test_reruns.py", "not_aborted"),
    Mutant("an end that will be forgotten is not read in time", "rules/sight.py", "    return record.end is None and subject.terms.promises.creates_on_run", "    return False", "test_ways_out.py", "completed_run_that_is_forgotten"),
    Mutant("a pruned job of ours counts as another owner's", "rules/matching.py", "    return Subject(job, record, same_config, last=last, lineage=terms.lineage, terms=terms)", "    return Subject(job, record, same_config, last=last, terms=terms)", "test_ways_out.py", "is_pruned"),
    Mutant("a person may tell an end that the engine knows", "usecases/resolve.py", "    if seen.status not in (Status.FORGOTTEN, Status.TAKEN_AWAY) and not is_unseen:", "    if False:", "test_ways_out.py", "had_ended_on_a_persons_word"),
    Mutant("a run that was taken away counts as forgotten", "rules/sight.py", "    return Status.FORGOTTEN if _is_forgotten_by_now(record, terms) else Status.TAKEN_AWAY", "    return Status.FORGOTTEN", "test_decide.py", "each_cell"),
    Mutant("the recorded end of a forgotten run is not read", "rules/sight.py", "    if record.end is not None:\n", "    if False:\n", "test_decide.py", "each_cell"),
    Mutant("another owner's run is taken for ours", "rules/sight.py", "    if observed.marks.lineage == lineage:\n", "    if True:\n", "test_decide.py", "each_cell"),
    Mutant("an apply shows its plan before it reads", "usecases/rounds.py", "        observed, before = self._read(made, matching, others)\n", "        observed, before = {}, {}\n", "test_commands.py", "completed_jobs"),
    Mutant("a saved plan is judged before the jobs are read", "usecases/rounds.py", "            return fresh if is_less and is_within(fresh.calls, action.calls) else action", "            return action", "test_commands.py", "completed_jobs"),
    Mutant("kinds without a guard share none", "rules/guards.py", "    if present >= _SHARED_FROM and", "    if False and", "test_guards.py", "share or defaults"),
    Mutant("a refreshed plan keeps quiet about drift", "usecases/planning.py", "    if observed:\n        made = made._replace(actions=_with_drift", "    if False:\n        made = made._replace(actions=_with_drift", "test_drift.py", "judges_as_drift"),
    Mutant("a call under way counts as in doubt", "state/file_store.py", "            holder = self._lock.holder(folder) if loaded and loaded.in_flight else \"\"", "            holder = \"\"", "test_words.py", "under_way"),
    Mutant("a state that is a mount is found out too late", "state/file_lock.py", "            if is_mounted_alone(self._path):", "            if False:", "test_machines.py", "mount"),
    Mutant("a file that root replaces is root's", "host/disk.py", "        self._keep_owner(old, new)\n", "", "test_machines.py", "owner"),
    Mutant("two halves of an emoji stay halves", "manifest/events.py", "        if has_pairs and type(event) is ScalarEvent", "        if False and type(event) is ScalarEvent", "test_machines.py", "emoji"),
    Mutant("a line wraps", "host/terminal.py", "clipped = completed if columns is None else clip(completed, columns)", "clipped = completed", "test_terminal.py", "wider"),
    Mutant("many that say the same are listed", "views/columns.py", "if len(names) > MANY} if calls is None and not whole else {}", "if False}", "test_terminal.py", "twenty"),
    Mutant("all formats are imported for one", "cli/options.py", "        found = formats.find(str(value))\n", "        found = formats.find(str(value)) if self._names else None\n", "test_formats.py", "no_format_but"),
    Mutant("a format takes answers that it can't show", "cli/options.py", "        if found is None or not found.can_show(*self._answers):\n", "        if found is None:\n", "test_formats.py", "is_one_file"),
    Mutant("wrong words are told in text alone", "cli/usage.py", "    if shell.format.can_show(FailureAnswer) and not is_of_the_format:\n", "    if False:\n", "test_formats.py", "wrong_words"),
    Mutant("the history hides how a run ended", "views/phrases.py", "return entry.end or spoken(entry.outcome)", "return spoken(entry.outcome)", "test_run_ids_shown.py", "the_history_names"),
    Mutant("a value of an option is taken for a path", "model/commands.py", '"--at", "--ended", "--endpoint"', '"--at", "--endpoint"', "test_named_commands.py", "value_of_an_option"),
    Mutant("a rerun takes a run of another config for its own", "rules/starts.py", "return adopt(its_own,", "return adopt(subject,", "test_reruns.py", "waited_for"),
    Mutant("a plan in JSON depends on the command line", "views/json.py", "    document = plan_to_json(answer.plan)\n", "    document: Any = completed(plan_to_json(answer.plan), context)\n", "test_formats.py", "are_complete"),
    Mutant("a line of an apply stands behind the bar", "host/terminal.py", "                    file.write(_ERASE_LINE)\n", "", "test_terminal.py", "bar"),
    Mutant("fmt --diff writes", "cli/fmt.py", "write=not (check or with_diff)", "write=not check", "test_layout.py", "only_fmt"),
    Mutant("a displaced record takes a name that people use", "model/jobs.py", "    return f\" {name}@{job_id}\"\n", "    return f\"{name}@{job_id}\"\n", "test_naming.py", "displaces_no_job"),
    Mutant("a state with one id under two names is accepted", "state/codec.py", "    if len({record.id for record in jobs.values()}) < len(jobs):\n", "    if False:\n", "test_naming.py", "accepted_by_nobody"),
    Mutant("a name is looked up as the state has it", "rules/naming.py", "    found = {moves.get(key, key): key for key in records}\n", "    found = {key: key for key in records}\n", "test_naming.py", "swap_of_names"),
    Mutant("a guess settles one of several calls", "rules/naming.py", "    if word == named.key and len(doubtful) > 1:\n", "    if False:\n", "test_naming.py", "settles_none_of_several"),
    Mutant("a saved plan is taken as it stands", "usecases/saved_plans.py", "    if differs := first_difference(saved, made):\n", "    if differs := \"\":\n", "test_saved_plans.py", "edited_is_refused"),
    Mutant("a saved plan allows itself", "usecases/saved_plans.py", "    made = plan_of(workspace, state, matching, selection, saved.observed)\n", "    made = plan_of(workspace, state, matching, selection, saved.observed, allowed=saved.allowed)\n", "test_saved_plans.py", "goes_past_no_guard"),
    Mutant("a saved plan sends credentials anywhere", "usecases/saved_plans.py", "    if is_named_elsewhere and plugin_for(target).is_on_this_machine(saved.target):\n", "    if is_named_elsewhere:\n", "test_saved_plans.py", "beyond_it"),
    Mutant("accept binds a state to any service", "state/loading.py", "            if not has_moved:\n", "            if False:\n", "test_rehearsal.py", "unless_that_is_named"),
    Mutant("a named command loses its state", "model/commands.py", "    options = [] if has_state or not given.state_url else", "    options = [] if True else", "test_named_commands.py", "about_the_same"),
    Mutant("a state is taken for a manifest", "manifest/faults.py", "    if kind is None or kind is FileKind.MANIFEST:\n        return None\n", "    if True:\n        return None\n", "test_misplaced.py", "given_as_a_manifest"),
    Mutant("a manifest is taken for a state", "usecases/stores.py", "    if kind is not None and kind is not FileKind.STATE:\n", "    if False:\n", "test_misplaced.py", "taken_for_a_state"),
    Mutant("a token of the day is asked for again", "usecases/rerun.py", "    return f\"{today}.{max(numbers) + 1}\" if numbers else today\n", "    return f\"{today}.{len(numbers) + 1}\" if numbers else today\n", "test_edit.py", "higher_than_all"),
    Mutant("a file without write permission is replaced", "manifest/files.py", "    if not mode & 0o222 or not os.access(path, os.W_OK):\n", "    if False:\n", "test_words.py", "read_only"),
    Mutant("an accept makes a state of nothing", "usecases/state.py", "    if is_empty:\n        raise Usage(", "    if False:\n        raise Usage(", "test_words.py", "nothing_to_accept"),
    Mutant("an accept begins a state that is gone anew", "usecases/state.py", "    except StateError:  # the fault of the state", "    except ReconcilerError:  # the fault of the state", "test_near_misses.py", "begin_anew"),
    Mutant("a remote without git+ is a file", "state/backends/git_url.py", "    return f\"{SCHEME}{path}\" if is_remote and", "    return f\"{SCHEME}{path}\" if False and", "test_near_misses.py", "is_no_file"),
    Mutant("init makes a second default manifest", "usecases/init.py", "    _refuse_beside_default(file)\n", "", "test_near_misses.py", "second_default"),
    Mutant("an abort of what does not run is like any malformed call", "engines/bytenite/answers.py", "    if verb is Verb.ABORT and reply.status == 400:\n", "    if False:\n", "test_reasons.py", "rejection_carries"),
    Mutant("a package takes the place of a built-in engine", "engines/registry.py", "    if name in _BUILT_IN:\n", "    if name is _BUILT_IN:\n", "test_registry.py", "entry_point"),
    Mutant("a flag that is left out is another config", "engines/bytenite/plugin.py", "return a == b or _explicit(a) == _explicit(b)", "return a == b", "test_configs.py", "left_out"),
    Mutant("a target is another one by its certificates", "model/jobs.py", "self[:2] == other[:2]", "tuple(self) == tuple(other)", "test_registry.py", "whatever_way"),
    Mutant("a field of the config is compared without the engine", "rules/configs.py", "        if (left or right) and not same(left, right):\n", "        if left != right:\n", "test_configs.py", "for_the_engine_to_say or at_its_default"),
    Mutant("a rejected login lets others start", "apply/calls.py", "        if is_unreachable or result.reason is Reason.NOT_AUTHENTICATED:\n", "        if is_unreachable:\n", "test_any_engine.py", "who_asks"),
    Mutant("what is no job any more is aborted again and again", "apply/calls.py", "    Verb.ABORT: frozenset({Reason.NOT_RUNNING, Reason.NO_SUCH_JOB}),\n", "    Verb.ABORT: frozenset({Reason.NOT_RUNNING}),\n", "test_any_engine.py", "repetition"),
    Mutant("a restart goes on after any rejected abort", "apply/action.py", "attempt.kind is AnswerClass.REJECTED and attempt.result.reason is Reason.NOT_RUNNING", "attempt.kind is AnswerClass.REJECTED", "test_any_engine.py", "another_reason"),
    Mutant("a count falls with its record", "state/replay.py", "    if record.run > last.get(record.id, 0):\n", "    if True:\n", "test_run_counts.py", "falls_behind"),
    Mutant("a dropped record takes its count along", "state/codec.py", "if run > recorded.get(job_id, 0)}", "if False}", "test_format.py", "stand_apart"),
    Mutant("a lost state counts anew", "state/file_store.py", "        counts = history.run_counts(self._told())\n", "        counts: dict[str, int] = {}\n", "test_run_counts.py", "lost_state"),
    Mutant("a pushed state may count fewer runs", "state/successors.py", "        if state.last.get(job_id, 0) < run:\n", "        if False:\n", "test_run_counts.py", "fewer_runs"),
    Mutant("a run in doubt is sent again without a guard", "rules/doubts.py", "        return subject.may_ask_again and _is_still_asked(subject.job, doubt)", "        return _is_still_asked(subject.job, doubt)", "test_guarded_runs.py", "without_the_guard_a_run_in_doubt"),
    Mutant("a run that nobody asks for any more is sent again", "rules/doubts.py", "        return subject.may_ask_again and _is_still_asked(subject.job, doubt)", "        return subject.may_ask_again", "test_guarded_runs.py", "no_longer_asked_for"),
    Mutant("a run that the engine may have dropped is sent again", "rules/retention.py", "    return known_s == FOR_EVER or (", "    return True or (", "test_guarded_runs.py", "can_t_have_dropped"),
    Mutant("a run of another call settles a doubt", "apply/settle.py", "    Reason.OTHER_OP: Trace.UNKNOWN,", "    Reason.OTHER_OP: Trace.DONE,", "test_guarded_runs.py", "another_call_of_this_state"),
    Mutant("an intent lacks the handle of what was made ready", "apply/calls.py", "doubt._replace(staged=step.staged, ", "doubt._replace(", "test_guarded_runs.py", "names_its_handle"),
    Mutant("an older state counts a refused run as failed", "apply/outcomes.py", "        case AnswerClass.REJECTED if result.reason is Reason.OTHER_OP:\n", "        case AnswerClass.REJECTED if False:\n", "test_guarded_runs.py", "older_state_runs_nothing"),
    Mutant("a job of another service is called", "rules/decide.py", "    if record is not None and record.target is not None:\n        why,", "    if False:\n        why,", "test_guarded_runs.py", "recorded_for_another_service"),
    Mutant("another cluster at the same address is not noticed", "usecases/engines.py", "        if identity:\n", "        if False:\n", "test_identity_and_ends.py", "another_service_at"),
    Mutant("ends of runs make a saved plan stale", "state/record_json.py", "        record.ref,\n        record.target and", "        record.ref,\n        record.end,\n        record.target and", "test_format.py", "rests_on"),
    Mutant("a saved plan is bound to the number of writes", "usecases/saved_plans.py", "    if saved.records_digest != records_digest(state) or saved.serial > state.serial:\n", "    if saved.serial != state.serial:\n", "test_identity_and_ends.py", "bound_to_the_records"),
    Mutant("the end of somebody's run is that of the recorded run", "rules/records.py", " or not is_same_run(record, observed):\n", ":\n", "test_identity_and_ends.py", "someone_else_started"),
    Mutant("a run that is sent again gets a new number", "rules/records.py", "    return doubt.run if doubt is not None and doubt.verb is Verb.RUN and doubt.run else subject.last + 1\n", "    return subject.last + 1 if doubt is None else subject.last + 2\n", "test_killed_runs.py", "first and not lost and send"),
    Mutant("a run that was there already counts as rejected", "apply/calls.py", "    was_there = result.reason is Reason.WAS_THERE\n", "    was_there = False\n", "test_guarded_runs.py", "arrives_late"),
    Mutant("an intent lacks the number of its run", "apply/calls.py", "        run = run_of(subject, verb)\n", "        run = 0\n", "test_guarded_runs.py", "names_its_handle"),
    Mutant("a refusal of the second call ends the doubt about the first", "apply/calls.py", "            if _is_about_run_id(again):\n", "            if again.kind is AnswerClass.REJECTED or _is_about_run_id(again):\n", "test_guarded_runs.py", "tells_nothing_of_the_first"),
    Mutant("a refusal in a later apply is its outcome", "apply/calls.py", "            if first is None or result.kind is AnswerClass.APPLIED or (first_run and _is_about_run_id(result)):\n", "            if True:\n", "test_guarded_runs.py", "later_apply_is_refused"),
    Mutant("a refused repetition takes the place of the lost call", "apply/calls.py", "            lost = first if first is not None and attempt.result.kind is AnswerClass.REJECTED else doubt\n", "            lost = doubt\n", "test_guarded_runs.py", "later_apply_is_refused"),
    Mutant("a repeated call counts from itself", "apply/calls.py", "first_sent_at=first.began_at if first else \"\"", "first_sent_at=\"\"", "test_guarded_runs.py", "counts_from_its_first_call"),
    Mutant("a run in doubt is kept as long as the engine keeps any run", "apply/context.py", "engine.promises, doubt.config, doubt.began_at", "engine.promises, {}, doubt.began_at", "test_guarded_runs.py", "own_config_says"),
    Mutant("what a config says of keeping its run is not read", "rules/retention.py", "    return promises.keeps_ended_s if keep_for_s is None else min(promises.keeps_ended_s, keep_for_s)\n", "    return promises.keeps_ended_s\n", "test_retention.py", "shorter_time"),
    Mutant("an adopted config says how long the run before is kept", "rules/records.py", ", keep_for_s=record.keep_for_s)\n", ")\n", "test_retention.py", "only_adopted"),
    Mutant("a merge goes back to an older run", "state/merging.py", "    is_older = other.run > record.run or (", "    is_older = (", "test_merging.py", "newer_run"),
    Mutant("a merge loses a record that the journal renamed", "state/merging.py", " or (our is None and before is not None and before.id in our_ids)", "", "test_merging.py", "renamed_is_not_lost"),
    Mutant("a merge loses the count of a dropped record", "state/merging.py", "[*known.values(), *theirs.jobs.values(), ", "[*theirs.jobs.values(), ", "test_merging.py", "journal_dropped_stays"),
    Mutant("a merge loses one of two runs in doubt", "state/merging.py", "    consumed = [doubt for doubt in left_out if doubt.verb is Verb.RUN]\n", "    consumed: list[Doubt] = []\n", "test_merging.py", "left_out_counts_as_carried_out"),
    Mutant("an accepted state counts its runs anew", "state/rollback.py", "    return state._replace(jobs=jobs, last=last), _words", "    return state._replace(jobs=jobs), _words", "test_run_counts.py", "rolled_back"),
    Mutant("a state behind the serial of its history is taken", "state/rollback.py", "    if newest > state.serial:\n", "    if False:\n", "test_rollback.py", "earlier_serial"),
    Mutant("an action that ends in the middle of its call has failed", "apply/execute.py", "        if doubt is None:\n            return failed(action, why)", "        if True:\n            return failed(action, why)", "test_guarded_runs.py", "ends_an_action"),
    Mutant("a run of another branch under the same number is not missed", "state/rollback.py", "    for branch in branches_of(lines):\n", "    for branch in []:\n", "test_rollback.py", "same_number"),
    Mutant("only the config of a run on another branch is compared", "state/rollback.py", "    return has_token and text_of", "    return text_of", "test_rollback.py", "same_number"),
    Mutant("only the run token of a run on another branch is compared", "state/rollback.py", "    return has_token and text_of(entry.config or {}) in record.ran_configs\n", "    return has_token\n", "test_rollback.py", "same_number"),
    Mutant("a doubt that was settled in two ways counts as not carried out", "state/rollback.py", "settled[NOT_APPLIED] - settled[APPLIED]", "settled[NOT_APPLIED]", "test_rollback.py", "two_ways"),
    Mutant("the runs of another lineage are nobody's", "state/rollback.py", "entry.lineage == state.lineage or entry.target == state.target", "entry.lineage == state.lineage", "test_rollback.py", "another_lineage_on_the_same"),
    Mutant("the runs on another target are ours", "state/rollback.py", "if entry.lineage == state.lineage or entry.target == state.target]", "if True]", "test_rollback.py", "on_another_target"),
    Mutant("a history that lacks the state is not warned of", "state/rollback.py", "ends before serial {state.serial} of the state\"", "\" and \"\"", "test_rollback.py", "warned_of_once"),
    Mutant("a pushed state may lack run tokens", "state/successors.py", "record.run_tokens - other.run_tokens", "frozenset[str]()", "test_rollback.py", "never_lacks"),
    Mutant("a pushed state is not held against the history", "state/file_store.py", "            if loaded is not None:  # Where", "            if False:  # Where", "test_rollback.py", "held_against"),
    Mutant("a state that lacks runs of its history is taken", "state/rollback.py", "        if entry.outcome in _DONE and entry.run >", "        if False and entry.run >", "test_rollback.py", "took_one_side"),
    Mutant("an older state has consumed nothing of its history", "state/rollback.py", "        jobs[key] = _after(jobs.get(key), entry)\n", "        jobs[key] = jobs.get(key) or Record(entry.id, None)\n", "test_rollback.py", "has_consumed"),
    Mutant("a recovery puts the history ahead of the state", "state/writer.py", "            self._files.append_history(held, again=True)\n", "            self._files.append_history(loaded.unwritten, again=True)\n", "test_rollback.py", "lost_with_the_power"),
    Mutant("marks without an op prove a call", "model/jobs.py", "return self.lineage != \"\" and self.op != \"\"", "return self.lineage != \"\" or self.op != \"\"", "test_guarded_runs.py", "lack_the_lineage"),
    Mutant("an imported object is called as if it were our own", "apply/calls.py", "_owner(subject.record, verb, observed) or context.session.lineage", "context.session.lineage", "test_guarded_runs.py", "imported"),
    Mutant("a serial that is written for the identity has no line", "state/session.py", "            self._records.identify(identity)\n            self._records.add_lines([history.record_line(entry)])\n", "            self._records.identify(identity)\n", "test_run_counts.py", "identity_alone"),
    Mutant("a fault of a built-in engine is no doubt", "apply/calls.py", "            return Result(AnswerClass.IN_DOUBT, message=words)\n", "            return Result(AnswerClass.REJECTED, message=words)\n", "test_guarded_runs.py", "fault_of_the_engine"),
    Mutant("the model finds a run in doubt that is sent again without a guard", "rules/doubts.py", "        return subject.may_ask_again and _is_still_asked(subject.job, doubt)", "        return _is_still_asked(subject.job, doubt)", "test_model.py", "no_history"),
    Mutant("the model finds a number that two runs have", "rules/records.py", "and doubt.run else subject.last + 1\n", "and doubt.run else subject.last or 1\n", "test_model.py", "no_history"),
    Mutant("the model finds a count that falls with its record", "state/codec.py", "if run > recorded.get(job_id, 0)}", "if False}", "test_model.py", "no_history"),
    Mutant("the model finds a call for a job of another owner", "rules/sight.py", "    if observed.marks.lineage and _is_of_other_owner(record, observed, subject.lineage):", "    if False:", "test_model.py", "no_history"),
    Mutant("the model finds a token that is not consumed", "rules/records.py", "    consumed = tokens | {job.run_token} if job.run_token is not None else tokens\n", "    consumed = tokens\n", "test_model.py", "no_history"),
    Mutant("the model finds a call for another cluster", "usecases/engines.py", "        if identity:\n", "        if False:\n", "test_model.py", "no_history"),
    Mutant("the model finds a run that was there and counts as rejected", "apply/calls.py", "    was_there = result.reason is Reason.WAS_THERE\n", "    was_there = False\n", "test_model.py", "no_history"),
    Mutant("the model finds an intent without the handle of what was made ready", "apply/calls.py", "doubt._replace(staged=step.staged, ", "doubt._replace(", "test_model.py", "no_history"),
]  # fmt: skip


def caught(mutant: Mutant) -> bool:
    """Whether the mutant's test fails on a copy of the package with the bug."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "reconciler"
        shutil.copytree(Path(reconciler.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if not (copy / "schemas").exists():  # links to the checkout's folders, without which every test would fail
            shutil.copytree(TESTS.parent / "schemas", copy / "schemas")
        path = copy / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            sys.exit(f"{mutant.name}: what it replaces stands {text.count(mutant.old)} times in {mutant.file}")
        path.write_text(text.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header"]
        command += [str(next(TESTS.rglob(mutant.test)))] + (["-k", mutant.keyword] if mutant.keyword else [])
        env = {
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{SUPPORT}{os.pathsep}{CAMPAIGNS}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        env["PYTHONSAFEPATH"] = "1"  # otherwise the tests would import the checkout instead of the copy
        done = subprocess.run(command, env=env, cwd=TESTS.parent, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            sys.exit(f"{mutant.name}: pytest ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.returncode == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAME", help="only mutants whose name contains NAME")
    chosen = [mutant for mutant in MUTANTS if parser.parse_args().only in mutant.name]
    survivors = []
    for mutant in chosen:
        found = caught(mutant)
        print(f"{'caught' if found else 'SURVIVED':9} {mutant.name}  ({mutant.test} {mutant.keyword})", flush=True)
        survivors += [] if found else [mutant.name]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} seeded bugs caught")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
