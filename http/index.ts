/** The HTTP front end of the key-value store. */
export { type AppOptions, buildApp } from './app.js';
export {
  HttpErrorCode,
  PROBLEM_MEDIA_TYPE,
  type Problem,
  type ProblemCode,
} from './problems.js';
export { type Server, type ServerOptions, startServer } from './server.js';
