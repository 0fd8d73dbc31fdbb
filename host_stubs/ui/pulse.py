"""What runs in an open page: it tells the server what the user does, asks what is to be seen, and shows that.

Not with Gradio's own events and timers: for each of these a browser is busy for some 40 ms, and more with every
component that an answer could change. Beside a training, which has use for every core, two timers took a tenth of one.
"""

from __future__ import annotations

LOOK, CLOSED = "/look", "/closed"
"""Where a page asks, and where it says that it closes."""
PULSE = """
const contents = {}, queue = [];
let acts = [], sent = [], number = 0, asking = false, lost = false, asked = 0;
const session = crypto.getRandomValues(new Uint32Array(4)).join('-');
const post = (path, what, how = {}) => fetch(path, {
  method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify(what), ...how,
});
const playing = row => [...row.querySelectorAll('audio')].some(one => !one.paused && !one.ended);
const fill = () => {  // a row that has not changed, or is being listened to, is left alone
  for (const [id, rows] of Object.entries(contents)) {
    const place = document.querySelector(`#${id} .live`);
    if (!place) continue;
    const gone = new Map([...place.children].map(row => [row.dataset.key, row]));
    rows.forEach(([key, html], index) => {
      const row = gone.get(key) ?? document.createElement('div');
      gone.delete(key);
      row.dataset.key = key;
      if (row.said !== html && !playing(row)) [row.innerHTML, row.said] = [html, html];
      if (place.children[index] !== row) place.insertBefore(row, place.children[index] ?? null);
    });
    gone.forEach(row => playing(row) || row.remove());
  }
};
const ask = async () => {
  if (!element.isConnected) return end();
  const rest = document.hidden && performance.now() < asked + %(unseen)d;
  if (asking || (rest && !acts.length && !sent.length)) return;
  [asking, asked] = [true, performance.now()];
  if (!sent.length && acts.length) [sent, acts, number] = [acts, [], number + 1];
  let soon = false;
  try {
    const answer = await (await post('%(look)s', {session, number, acts: sent, lost})).json();
    [sent, lost, soon] = [[], false, answer.soon];
    Object.assign(contents, answer.html);
    if (Object.keys(answer.news).length) {
      queue.push(answer.news);
      trigger('news');
      setTimeout(fill, 50);  // into what appears only now
    }
    fill();
  } catch {
    lost = true;
  } finally {
    asking = false;
  }
  if (acts.length) ask();
  else if (soon) setTimeout(ask, 200);
};
const press = event => {
  const button = event.target.closest?.('[data-act]');
  if (!button) return;
  const fields = button.closest('[data-key]').querySelectorAll('input, select');
  host.act(Number(button.dataset.act), [button.dataset.value, ...[...fields].map(field => field.value)]);
};
const host = window.host = {
  act: (number, values) => { acts.push([number, values]); ask(); },
  news: () => queue.shift() ?? {},
};
const drop = async event => {
  const field = event.target.closest?.('[data-drop]');
  if (!field?.files.length) return;
  const file = field.files[0], headers = {'content-type': 'application/octet-stream'};
  const answer = await fetch('/dropped', {method: 'POST', headers, body: file});
  host.act(Number(field.dataset.drop), [answer.ok ? await answer.text() : '', file.name]);
};
const close = event => event.persisted || post('%(closed)s', session, {keepalive: true});  // or it may come back
document.addEventListener('click', press);
document.addEventListener('change', drop);
window.addEventListener('pagehide', close);
const timer = setInterval(ask, %(seen)d);
const end = () => {
  clearInterval(timer);
  document.removeEventListener('click', press);
  document.removeEventListener('change', drop);
  window.removeEventListener('pagehide', close);
};
ask();
"""
ACT = "(...values) => { window.host.act(%d, values); }"
NEWS = "() => { const news = window.host.news(); return %s.map(id => news[id]); }"
