// What a client is asked durably is asked again until it has answered: after its connection was cut, and after the server was killed.
//
// The clients are the official ones, as they come: they reconnect by themselves and call the last argument of a handler.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { ask, checkBetterThanNode, eachSubject, modes, next, opened, until } from "./harness.mjs";

const PATH = "/questions/";
const NONE = "it keeps no questions";

eachSubject("durable questions", (server) => {
  /** A client that notes what it is asked, each question with the function that answers it. */
  async function client(mode = "websocket") {
    const socket = server.client({ mode, path: PATH, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 });
    const asked = [];
    socket.on("question", (question, answer) => asked.push({ question, answer }));
    await opened(socket);
    return { socket, asked };
  }

  /** Has the server ask the client, and waits until it has. */
  async function askMe({ socket, asked }, question) {
    const before = asked.length;
    await ask(socket, "ask-me", question);
    await until(() => asked.length > before, "the question");
    return asked.at(-1);
  }

  async function reconnected(socket) {
    const back = next(socket, "connect");
    socket.io.engine.close();
    await back;
    assert.ok(socket.recovered);
  }

  async function answersTo({ socket }, question, count) {
    let answers;
    await until(async () => (answers = await ask(socket, "answers", question)).length >= count, "the answer");
    return answers;
  }

  for (const mode of modes) {
    checkBetterThanNode(server, `a question is asked again when the connection was cut before the answer (${mode})`, NONE, async () => {
      const one = await client(mode);
      const [first, second] = [randomUUID(), randomUUID()];
      await askMe(one, first);
      (await askMe(one, second)).answer("at once");
      assert.deepEqual(await answersTo(one, second, 1), ["at once"]);
      await reconnected(one.socket);
      await until(() => one.asked.length === 3, "the question, again");
      assert.equal(one.asked[2].question, first);
      one.asked[2].answer("now");
      assert.deepEqual(await answersTo(one, first, 1), ["now"]);
      await reconnected(one.socket);
      await ask(one.socket, "sync");
      assert.equal(one.asked.length, 3);
    });
  }

  checkBetterThanNode(server, "an answer that is lost with the connection is asked for again", NONE, async () => {
    const one = await client();
    const question = randomUUID();
    const { answer } = await askMe(one, question);
    const back = next(one.socket, "connect");
    one.socket.io.engine.close();
    // The handler is done; what it says goes nowhere.
    answer("lost");
    await back;
    await until(() => one.asked.length === 2, "the question, again");
    one.asked[1].answer("heard");
    assert.deepEqual(await answersTo(one, question, 1), ["heard"]);
  });

  checkBetterThanNode(server, "an answer counts that a handler gives when the client is back", NONE, async () => {
    const one = await client();
    const question = randomUUID();
    const { answer } = await askMe(one, question);
    await reconnected(one.socket);
    answer("late");
    assert.deepEqual(await answersTo(one, question, 1), ["late"]);
    // It was asked again, unless the answer came before the server had looked for what is open.
    await ask(one.socket, "sync");
    for (const again of one.asked.slice(1)) again.answer("twice");
    await ask(one.socket, "sync");
    assert.deepEqual(await answersTo(one, question, 1), ["late"]);
  });

  checkBetterThanNode(server, "questions outlive a server that is killed, until they are answered", NONE, async () => {
    for (const mode of modes) {
      const one = await client(mode);
      const questions = Array.from({ length: 4 }, () => randomUUID());
      for (const question of questions) await askMe(one, question);
      const [first, second, third] = one.asked;
      first.answer(0);
      third.answer(0);
      await answersTo(one, questions[2], 1);
      // What was answered is written behind: this is stored after it.
      const fence = randomUUID();
      await askMe(one, fence);
      const kill = async () => {
        const back = next(one.socket, "connect", 40_000);
        await server.kill();
        await server.start();
        await back;
        assert.ok(one.socket.recovered);
      };
      await kill();
      // The handler began in the life before; nobody there waits for its answer any more, but it counts.
      second.answer(0);
      await ask(one.socket, "sync");
      await until(() => one.asked.length >= 7 && one.asked.at(-1).question === fence, "what was not answered");
      assert.ok(one.asked.slice(5).every(({ question }) => [questions[1], questions[3], fence].includes(question)));
      one.asked.at(-2).answer(0);
      one.asked.at(-1).answer(0);
      await ask(one.socket, "sync");
      const last = randomUUID();
      await askMe(one, last);
      const before = one.asked.length;
      await kill();
      await until(() => one.asked.length > before, "what was not answered");
      await ask(one.socket, "sync");
      assert.deepEqual(one.asked.slice(before).map(({ question }) => question), [last], "all else is answered");
      const again = randomUUID();
      (await askMe(one, again)).answer("new");
      assert.deepEqual(await answersTo(one, again, 1), ["new"]);
      one.socket.disconnect();
    }
  });
});
